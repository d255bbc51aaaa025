"""HTTP GET with bounds, for the hub and for single files of the web. Nothing is ever sent but a request.

Standard library only, so that proxies, certificates and timeouts are those of the process. A dead server fails within a
minute. A redirect never leads from https to http, and never takes a token to another host.
"""

import errno
import http.client
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from lora_api.exit_codes import ExitCode
from lora_trainer.errors import TrainerError
from lora_trainer.storage.location import Location

_SILENCE_SECONDS = 15
"""To connect to one address, and between two pieces of an answer."""
_ATTEMPTS = 3
_NO_ATTEMPT_AFTER_SECONDS = 30
"""A host with two addresses that answer nothing takes two silences an attempt, so the last one ends within a minute."""
_PIECE_BYTES = 2**20
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_BUSY = {408, 425, 429, 500, 502, 503, 504}


class Response(NamedTuple):
    """A whole answer."""

    headers: Message
    content: bytes


class StatusError(Exception):
    """An answer that another attempt would not change; the caller knows what it means."""

    def __init__(self, status: int, headers: Message) -> None:
        super().__init__(str(status))
        self.status = status
        self.headers = headers


class _CutOffError(Exception):
    """The connection ended before the content did."""


class Http:
    """A client. `sleep` and `clock` (seconds) are given by tests."""

    def __init__(
        self, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._opener = urllib.request.build_opener(_Redirects())
        self._sleep, self._clock = sleep, clock

    def get(self, location: Location, url: str, headers: Mapping[str, str]) -> Response:
        """Return the answer for a URL. Raises `StatusError`, or `TrainerError` (69) when there is none."""
        tries = _Tries(location, self._sleep, self._clock)
        while True:
            with tries.attempt(), self._open(url, headers) as answer:
                content = answer.read()
                _check_length(answer, len(content))
                return Response(answer.headers, content)

    def download(self, location: Location, url: str, headers: Mapping[str, str], target: Path) -> None:
        """Write the content of a URL to a file. A connection that breaks goes on where it stopped.

        Raises `StatusError`, or `TrainerError`: 69 when there is no answer, 74 when the disk has no room for it.
        """
        tries, tag = _Tries(location, self._sleep, self._clock), ""
        with target.open("wb") as file:
            while True:
                rest = {"Range": f"bytes={file.tell()}-", "If-Range": tag} if file.tell() and tag else {}
                with tries.attempt(), self._open(url, {**headers, **rest}) as answer:
                    if answer.status != http.client.PARTIAL_CONTENT:
                        file.seek(0)
                        file.truncate()
                    tag = _strong_tag(answer.headers)
                    _check_room(location, answer, target)
                    expected, start = answer.length, file.tell()
                    while piece := answer.read(_PIECE_BYTES):
                        file.write(piece)
                        tries.progressed()
                    if expected is not None and file.tell() - start < expected:
                        raise _CutOffError
                    return

    def _open(self, url: str, headers: Mapping[str, str]) -> Any:
        request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 - the callers' URLs are http(s)
        return self._opener.open(request, timeout=_SILENCE_SECONDS)


class _Tries:
    """Counts the attempts of one request, and ends them."""

    def __init__(self, location: Location, sleep: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._location, self._sleep, self._clock = location, sleep, clock
        self.progressed()

    def progressed(self) -> None:
        """Begin to count anew: something came."""
        self._failures, self._since = 0, self._clock()

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Swallow the trouble of one attempt and wait, so that the caller's loop tries again; raise after the last."""
        try:
            yield
        except urllib.error.HTTPError as error:
            if error.code not in _BUSY:
                raise StatusError(error.code, error.headers) from error
            self._failed(f"answered {error.code}", error)
        except (OSError, http.client.HTTPException, _CutOffError) as error:  # OSError: also time-outs and TLS
            if isinstance(error, OSError) and error.errno in _DISK_FULL:
                raise  # the local file, and not the network
            self._failed(f"did not answer ({_name(error)})", error)

    def _failed(self, what: str, error: Exception) -> None:
        self._failures += 1
        if self._failures >= _ATTEMPTS or self._clock() - self._since > _NO_ATTEMPT_AFTER_SECONDS:
            message = f"{self._location}: the server {what}"
            hint = "it is tried again; check the network from the pod and the server if it stays"
            raise TrainerError(ExitCode.SERVICE_UNAVAILABLE, message, hint) from error
        self._sleep(2.0 ** (self._failures - 1))


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if after.scheme != "https" and (before.scheme, after.scheme) != ("http", "http"):
            raise StatusError(code, headers)
        followed = super().redirect_request(req, fp, code, msg, headers, newurl)
        if followed is not None and (before.scheme, before.netloc) != (after.scheme, after.netloc):
            followed.remove_header("Authorization")
        return followed


def _check_length(answer: Any, got: int) -> None:
    expected = answer.headers.get("Content-Length")
    if expected is not None and got < int(expected):
        raise _CutOffError


def _check_room(location: Location, answer: Any, target: Path) -> None:
    free = shutil.disk_usage(target.parent).free
    if answer.length is not None and answer.length > free:
        raise TrainerError(
            ExitCode.DISK_FULL,
            f"{location}: {answer.length / 2**30:.1f} GiB are to come, and {free / 2**30:.1f} GiB are free",
            "raise spec.resources.scratch",
        )


def _strong_tag(headers: Message) -> str:
    tag = str(headers.get("ETag", ""))
    return tag if tag.startswith('"') else ""


def _name(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    return type(reason if isinstance(reason, BaseException) else error).__name__
