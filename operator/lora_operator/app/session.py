"""Kopf's way to the API server: an HTTP session that knows when a watch is blind, and when it may have missed events.

Kopf tries again without end and without a word, and it tells nobody of an object that vanished between two of its
lists. Both can be seen in its requests. Nothing here decides what follows from it.
"""

import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import kopf

_BLINK = 5.0
"""Seconds without a watch after which passes that failed meanwhile may be waiting for a long time."""
_NO_CONTACT = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})
_SOCKET_OPTIONS: Final = {"SO_KEEPALIVE": 1, "TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""A peer that is gone without a word is noticed after half a minute; a watch may well be silent for a minute."""


class Contact:
    """Follows the requests by which Kopf lists and watches."""

    def __init__(self, *, on_gap: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`on_gap` is called whenever events may have been missed."""
        self._on_gap = on_gap
        self._clock = clock
        self._unanswered: dict[str, float] = {}
        self._watched: set[str] = set()

    @property
    def blind_seconds(self) -> float:
        """Seconds for which the longest blind watch has asked in vain; 0 while all are open."""
        return self._clock() - min(self._unanswered.values(), default=self._clock())

    def asked(self, path: str) -> None:
        """Say that Kopf sends a request; a list and the watch of the same objects have the same path."""
        self._unanswered.setdefault(path, self._clock())

    def answered(self, path: str, status: int, *, watch: bool) -> None:
        """Say that the API server has begun to answer it."""
        if status in _NO_CONTACT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return
        blind = self._clock() - self._unanswered.pop(path, self._clock())
        listed_again = not watch and path in self._watched
        if watch:
            self._watched.add(path)
        if listed_again or blind > _BLINK:
            self._on_gap()

    def trace(self) -> aiohttp.TraceConfig:
        """Return what tells a session to tell this object."""
        config = aiohttp.TraceConfig()

        async def started(_: Any, __: Any, request: aiohttp.TraceRequestStartParams) -> None:
            self.asked(request.url.path)

        async def ended(_: Any, __: Any, request: aiohttp.TraceRequestEndParams) -> None:
            self.answered(request.url.path, request.response.status, watch="watch" in request.url.query)

        config.on_request_start.append(started)
        config.on_request_end.append(ended)
        return config


def open_session(info: kopf.ConnectionInfo, contact: Contact) -> kopf.AiohttpSession:
    """Return the session that Kopf would make itself, watched by `contact`. Kopf closes it."""
    connector = aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context(), socket_factory=_open_socket)
    session = aiohttp.ClientSession(
        connector=connector, headers=info.as_http_headers(), trace_configs=[contact.trace()]
    )
    return kopf.AiohttpSession(server=info.server, aiohttp_session=session)


def _open_socket(address: Any) -> socket.socket:
    family, kind, protocol, *_ = address
    opened = socket.socket(family, kind, protocol)
    for name, value in _SOCKET_OPTIONS.items():
        if (option := getattr(socket, name, None)) is not None:
            opened.setsockopt(socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP, option, value)
    return opened
