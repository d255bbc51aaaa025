"""Puts every object into the queue now and then, for whatever a watch has missed, and soon when one may have.

Kopf does not tell of an object that vanished while a watch was down, and a broken webhook or a raised quota tells
nobody. A pass over an unchanged object writes nothing, so this costs reads only; they are spread over time.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection

from lora_operator.cluster.client import LORAADAPTERS, LORAJOBS, Client
from lora_operator.reconcile.keys import Key, Kind
from lora_operator.reconcile.queue import WorkQueue

_LOG = logging.getLogger(__name__)
_RESOURCES = ((Kind.LORAJOB, LORAJOBS), (Kind.LORAADAPTER, LORAADAPTERS))
_JITTER = 0.2
_SPREAD = 30.0
"""Seconds over which the passes of one resync are spread."""
_RETRY = 10.0
_GATHER = 2.0
"""Seconds that calls of `soon` are gathered: the watches of all kinds lose their place together. Replicas and
operators beside this one take up to twice as long, so that they do not list in step."""


class Resync:
    """Lists everything periodically."""

    def __init__(
        self,
        client: Client,
        queue: WorkQueue[Key],
        *,
        namespaces: Collection[str],
        interval: float = 450.0,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """List in the namespaces, or in all if there are none given."""
        self._client = client
        self._queue = queue
        self._namespaces: list[str | None] = list(namespaces) or [None]
        self._interval = interval
        self._clock = clock
        self._chance = chance
        self._last = clock()
        self._asked = asyncio.Event()

    @property
    def age(self) -> float:
        """Seconds since the last complete resync, or since the start."""
        return self._clock() - self._last

    @property
    def interval(self) -> float:
        """Mean seconds between two."""
        return self._interval

    def soon(self) -> None:
        """Ask for a resync within seconds: events may have been missed."""
        self._asked.set()

    async def run(self) -> None:
        """Resync for ever. The watches begin with a list of their own, so the first one waits."""
        delay = self._next_delay()
        while True:
            await self._wait(delay)
            try:
                await self.resync()
                delay = self._next_delay()
            except Exception as error:
                _LOG.warning("Resync failed, it will be tried again: %s: %s", type(error).__name__, error)
                delay = _RETRY

    async def _wait(self, seconds: float) -> None:
        """Wait for a time, or until one is asked for."""
        try:
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        except TimeoutError:
            return
        await asyncio.sleep(_GATHER * (1 + self._chance()))
        self._asked.clear()
        _LOG.info("Looks at all objects: events may have been missed")

    async def resync(self) -> None:
        """Put every object into the queue."""
        for kind, resource in _RESOURCES:
            for namespace in self._namespaces:
                async for each in self._client.list(resource, namespace):
                    meta = each["metadata"]
                    key = Key(kind, meta["namespace"], meta["name"])
                    self._queue.add_after(key, self._chance() * min(_SPREAD, self._interval))
        self._last = self._clock()

    def _next_delay(self) -> float:
        return self._interval * (1 - _JITTER + 2 * _JITTER * self._chance())
