"""Asks pods in the background, each at its time, and keeps what they said last.

A pass never waits for a pod. It gets the last known answer at once and so says that it cares. A pod that does not
answer is no error: the next look may succeed. What an answer means is for others to say.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, Protocol, TypeVar

import aiohttp

from lora_operator.cluster.client import ApiError
from lora_operator.cluster.fetch import TIMEOUT, Fetch
from lora_operator.cluster.rota import Entry, Rota

_LOG = logging.getLogger(__name__)
FORGET_AFTER = 1_800.0
"""Seconds without a pass after which a pod is asked no more: two of the longest times between two resyncs."""


class NamedPod(Protocol):
    """A pod that can be asked, and spoken of."""

    @property
    def uid(self) -> str:
        """Uid of the pod."""

    @property
    def name(self) -> str:
        """Name of the pod."""


K = TypeVar("K", bound=Hashable)
P = TypeVar("P", bound=NamedPod)
A = TypeVar("A")


class Known(NamedTuple, Generic[A]):
    """What is known of a pod."""

    answer: A | None
    """The last one."""
    silent_since: float | None
    """When it was first asked without an answer, since it last answered."""


class Poller(Generic[K, P, A]):
    """Knows what pods said last."""

    def __init__(
        self,
        fetch: Fetch[P],
        read: Callable[[P, str, A | None], A],
        heard: Callable[[Entry[K, P, A], Known[A], Known[A]], None],
        *,
        namespace_of: Callable[[K], str],
        interval: float,
        eager_interval: float | None = None,
        young_interval: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        forget_after: float = FORGET_AFTER,
        observer: Callable[[bool], None] = lambda answered: None,
    ) -> None:
        """Ask by `fetch`, each pod every `interval` seconds; the other intervals are those of `Rota`.

        `read` gets pod, text and answer before, and returns the answer or raises ValueError. `heard` is called when an
        answer differs from the one before or when a pod falls silent or speaks again, with what was known and what is:
        at most once an interval for each pod. `observer` hears of every question whether it was answered.
        """
        self._fetch = fetch
        self._read = read
        self._heard = heard
        self._namespace_of = namespace_of
        self._clock = clock
        self._observer = observer
        self._rota: Rota[K, P, A] = Rota(
            interval, forget_after, chance, eager_interval=eager_interval, young_interval=young_interval
        )
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._rota)

    def read(self, key: K, pod: P, *, eager: bool = False, age: float | None = None) -> Entry[K, P, A]:
        """Return at once what is known of a pod that runs for `age` seconds, and keep asking it."""
        entry, earlier = self._rota.want(key, pod, self._clock(), eager=eager, age=age)
        if earlier:
            self._wake.set()
        return entry

    def last(self, key: K, uid: str) -> Entry[K, P, A] | None:
        """Return what is known of a pod without saying that anybody cares; None if nothing."""
        return self._rota.last(key, uid)

    def forget(self, key: K) -> None:
        """Ask a pod no more."""
        self._rota.forget(key)

    async def run(self) -> None:
        """Ask for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                while (entry := self._rota.take(self._clock())) is not None:
                    group.create_task(self._ask(entry))
                await self._sleep()

    async def _ask(self, entry: Entry[K, P, A]) -> None:
        answer = await self._answer(entry)
        before = Known(entry.answer, entry.silent_since)
        news = self._rota.finish(entry, answer, self._clock())
        after = Known(entry.answer, entry.silent_since)
        self._wake.set()
        self._observer(answer is not None)
        if news or before.silent_since != after.silent_since:
            self._heard(entry, before, after)

    async def _answer(self, entry: Entry[K, P, A]) -> A | None:
        namespace, pod = self._namespace_of(entry.key), entry.pod
        try:
            async with asyncio.timeout(TIMEOUT):
                return self._read(pod, await self._fetch(namespace, pod), entry.answer)
        except (aiohttp.ClientError, ApiError, TimeoutError, OSError, ValueError) as error:
            _LOG.debug("No answer of pod %s/%s: %s", namespace, pod.name, type(error).__name__)
            return None

    async def _sleep(self) -> None:
        """Wait until a pod is due, or anything changes."""
        self._wake.clear()
        try:
            async with asyncio.timeout(self._rota.wait(self._clock())):
                await self._wake.wait()
        except TimeoutError:
            pass
