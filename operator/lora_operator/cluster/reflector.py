"""Follows the objects of one kind: a list, then a watch from there, for ever and through every failure.

It keeps no object, only who there is, so that after another list it can name those that vanished meanwhile. It is run
by the leader alone, and ends by being cancelled. It decides nothing about what it sees.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

import aiohttp

from lora_operator.cluster.client import ApiError, Client, Resource, WatchEvent
from lora_operator.domain.observed import Document

_LOG = logging.getLogger(__name__)
_PAGE = 100
"""Objects a request: with the annotations that these may carry, a page stays near 10 MB."""
_FAILURES = (ApiError, aiohttp.ClientError, OSError, ValueError)
"""An API server that is away, busy or restarting, and a connection that broke anywhere; a timeout is an OSError."""
_LIST_AGAIN = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.GONE, HTTPStatus.GATEWAY_TIMEOUT})
"""The version is too old, or of an etcd that has been restored since then. After other failures the watch goes on."""
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0
_STEADY = 5.0
"""Seconds after which a watch that broke is no failure in a row with the one before."""


@dataclass(frozen=True, slots=True)
class WatchTimes:
    """Seconds."""

    watch: float = 600.0
    """How long the server is asked to keep a watch open, give or take a tenth, so that they do not end in step."""
    silence: float = 150.0
    """Without a byte, after which a watch is opened anew. The server says about once a minute that it is there; one
    that never does costs a request every so often, and no more."""


class Consumer(Protocol):
    """Who hears of the objects."""

    def listed(self, document: Document) -> None:
        """Hear of an object as a list has it; whatever was heard of it before is older, or of another etcd."""

    def changed(self, document: Document) -> None:
        """Hear of an object that is new or has changed."""

    def gone(self, namespace: str, name: str, uid: str) -> None:
        """Hear that an object is gone, or does not carry the label any more."""


class Reflector:
    """Follows the objects of a namespace, or of all, that carry a label."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        namespace: str | None,
        consumer: Consumer,
        *,
        labels: str = "",
        times: WatchTimes = WatchTimes(),
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Follow by `client`; `consumer` hears of everything, in the order in which it happened."""
        self._client = client
        self._resource = resource
        self._namespace = namespace
        self._consumer = consumer
        self._labels = labels
        self._times = times
        self._clock = clock
        self._chance = chance
        self._sleep = sleep
        self._known: dict[tuple[str, str], str] = {}
        self._version = ""  # empty: a list is needed
        self._failures = 0
        self._opened = 0.0
        self._blind_since: float | None = clock()
        self.synced = asyncio.Event()
        """Set after the first complete list."""

    @property
    def blind_seconds(self) -> float:
        """Seconds for which it has asked in vain; 0 while a watch is open."""
        return self._clock() - self._blind_since if self._blind_since is not None else 0.0

    async def run(self) -> None:
        """Follow for ever. Raises only what the consumer raises."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except _FAILURES as error:
                self._failed(error)
            self._lost()
            if self._failures:
                await self._sleep(self._pause())

    async def _list(self) -> None:
        seen: dict[tuple[str, str], str] = {}
        version = ""
        async for page in self._client.pages(self._resource, self._namespace, labels=self._labels, limit=_PAGE):
            version = page.version
            for document in page.items:
                self._meet(document)
                seen[_key(document)] = self._known[_key(document)]
                self._consumer.listed(document)
        for key in self._known.keys() - seen.keys():
            self._part(key)
        self._version = version
        self.synced.set()

    async def _watch(self) -> None:
        """Watch until the server ends it, which it does after a time."""
        self._opened = self._clock()
        seconds = int(self._times.watch * (0.9 + 0.2 * self._chance()))
        events = self._client.watch(
            self._resource,
            self._namespace,
            version=self._version,
            labels=self._labels,
            seconds=seconds,
            silence=self._times.silence,
        )
        async with aclosing(events):
            async for event in events:
                self._blind_since = None
                self._hear(event)
        # One that ends at once, again and again, must not keep us and the server busy.
        self._failures = 0 if self._lasted() else self._failures + 1

    def _hear(self, event: WatchEvent) -> None:
        document = event.object
        if event.type == "DELETED":
            self._part(_key(document))
        elif event.type != "BOOKMARK":
            self._meet(document)
            self._consumer.changed(document)
        self._version = event.version or self._version

    def _meet(self, document: Document) -> None:
        """Note that there is an object. Another one of the same name is gone then, whether or not we were told."""
        key, uid = _key(document), document["metadata"].get("uid") or ""
        if self._known.get(key, uid) != uid:
            self._part(key)
        self._known[key] = uid

    def _part(self, key: tuple[str, str]) -> None:
        uid = self._known.pop(key, None)
        if uid is not None:
            self._consumer.gone(*key, uid)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, ApiError) and error.status in _LIST_AGAIN:
            self._version = ""
        self._failures = 1 if self._lasted() else self._failures + 1
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        _LOG.log(level, "The watch of %s ended: %s: %s", self._resource.plural, type(error).__name__, error)

    def _lasted(self) -> bool:
        """Return whether the watch that has just ended was open for a while."""
        return self._blind_since is None and self._clock() - self._opened >= _STEADY

    def _lost(self) -> None:
        if self._blind_since is None:
            self._blind_since = self._clock()

    def _pause(self) -> float:
        full = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._failures - 1, 16))
        return full * (0.5 + 0.5 * self._chance())


def _key(document: Document) -> tuple[str, str]:
    meta = document["metadata"]
    return meta.get("namespace") or "", meta["name"]
