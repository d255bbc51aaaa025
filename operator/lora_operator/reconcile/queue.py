"""The keyed work queue between watch events and reconcile passes.

Many events for one object become one pass; one object is worked on by one worker at a time; a failed pass comes back
after a growing, jittered delay; a pass can ask to come back later. It knows nothing of Kubernetes. Time and chance
are injected, so tests neither sleep nor guess.
"""

import asyncio
import heapq
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

_LOG = logging.getLogger(__name__)

K = TypeVar("K")


_PUT_OFF_AFTER = 16
"""Keys that may overtake one that is due."""


class Outcome(NamedTuple):
    """How one pass over one key went; told to the observer of the queue."""

    error: Exception | None
    seconds: float
    waited: float = 0.0
    """Seconds that the key waited for a worker before."""


class Backoff(NamedTuple):
    """Delay before the n-th retry: `first * 2**n`, at most `longest`, and a random half of it left out."""

    first: float = 0.5
    longest: float = 300.0

    def delay(self, failures: int, chance: float) -> float:
        """Return the seconds to wait after a number of failures in a row; `chance` is between 0 and 1."""
        full = min(self.longest, self.first * 2.0 ** min(failures - 1, 32))
        return full * (0.5 + 0.5 * chance)


class WorkQueue(Generic[K]):
    """Keys that want a pass, now or later."""

    def __init__(
        self,
        *,
        backoff: Backoff = Backoff(),  # noqa: B008 - immutable
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        observer: Callable[[K, Outcome], None] = lambda key, outcome: None,
        added: Callable[[K], None] = lambda key: None,
    ) -> None:
        """Start empty. `observer` hears of every finished pass, `added` of every key that begins to wait for one."""
        self._backoff = backoff
        self._clock = clock
        self._chance = chance
        self._observer = observer
        self._added = added
        self._ready: dict[K, float] = {}  # asked for, in the order of arrival, with its time
        self._later: dict[K, float] = {}  # what was put off and is due now, likewise
        self._in_a_row = 0  # keys that were asked for and taken while others were due
        self._active: dict[K, float] = {}
        self._waited: dict[K, float] = {}  # of the active ones
        self._again: set[K] = set()  # asked for while active
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0
        self._failures: dict[K, int] = {}
        self._stopping = False
        self._wake = asyncio.Event()

    def add(self, key: K) -> None:
        """Ask for a pass now. Asking twice before it starts is asking once."""
        if key in self._active:
            self._again.add(key)
        elif key in self._later:
            self._ready[key] = self._later.pop(key)
        elif key not in self._ready:
            self._put(self._ready, key)

    def _put(self, lane: dict[K, float], key: K) -> None:
        lane[key] = self._clock()
        self._added(key)
        self._wake.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Ask for a pass later. Of several times the earliest counts."""
        due = self._clock() + seconds
        if due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, key))
        self._wake.set()

    def take(self) -> K | None:
        """Return the key that waits longest and mark it active; None when nothing is ready.

        What was asked for goes before what had been put off, so that of a thousand new objects none waits for the
        second look at another. Now and then it is the other way round, so that nothing waits for ever.
        """
        self._promote()
        lane = self._lane()
        key = next(iter(lane), None)
        if key is None:
            return None
        now = self._clock()
        self._waited[key] = now - lane.pop(key)
        self._due.pop(key, None)  # this pass says anew when the next one is due
        self._active[key] = now
        return key

    def finish(self, key: K, *, requeue_after: float | None = None, error: Exception | None = None) -> None:
        """Say how the pass over a taken key went."""
        started, waited = self._active.pop(key), self._waited.pop(key)
        if error is None:
            self._failures.pop(key, None)
        else:
            self._failures[key] = self._failures.get(key, 0) + 1
            requeue_after = self._backoff.delay(self._failures[key], self._chance())
        if requeue_after is not None:
            self.add_after(key, requeue_after)
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        self._observer(key, Outcome(error, self._clock() - started, waited))

    def _lane(self) -> dict[K, float]:
        """Return the lane whose turn it is."""
        fair = self._in_a_row >= _PUT_OFF_AFTER
        lane = self._later if self._later and (fair or not self._ready) else self._ready
        self._in_a_row = self._in_a_row + 1 if lane is self._ready and self._later else 0
        return lane

    def _promote(self) -> None:
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) != due:
                continue
            del self._due[key]
            if key in self._active:
                self._again.add(key)
            elif key not in self._ready and key not in self._later:
                self._put(self._later, key)

    @property
    def depth(self) -> int:
        """Keys that wait for a worker."""
        return len(self._ready) + len(self._later)

    def oldest_age(self) -> float:
        """Return the seconds that the oldest waiting or active key has been there."""
        times = [*self._ready.values(), *self._later.values(), *self._active.values()]
        return self._clock() - min(times) if times else 0.0

    async def run(self, handle: Callable[[K], Awaitable[float | None]], *, workers: int) -> None:
        """Work until `stop()`. What `handle` returns is the delay until the next pass, or None."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work(handle))

    def stop(self) -> None:
        """Let the workers finish the keys that they have, and end."""
        self._stopping = True
        self._wake.set()

    async def _work(self, handle: Callable[[K], Awaitable[float | None]]) -> None:
        while not self._stopping:
            key = self.take()
            if key is None:
                await self._sleep()
            else:
                await self._pass(key, handle)

    async def _pass(self, key: K, handle: Callable[[K], Awaitable[float | None]]) -> None:
        """Make one pass. Whatever goes wrong with one key stays with that key."""
        try:
            requeue_after = await handle(key)
        except Exception as error:
            _LOG.exception("Pass over %s failed, it will be tried again", key)
            self.finish(key, error=error)
        else:
            self.finish(key, requeue_after=requeue_after)

    async def _sleep(self) -> None:
        """Wait until a key is added or the next delayed one is due."""
        self._wake.clear()
        seconds = max(0.0, self._heap[0][0] - self._clock()) if self._heap else None
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
