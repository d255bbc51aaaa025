"""Says which pod is asked next for its progress. Values and times only: it neither waits nor speaks to a pod.

A pod that hangs holds a place for as long as the timeout, so pods that answered the last time have places that no other
can take. A thousand pods that nobody can reach slow each other down, and nobody else.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from lora_api.messages import Progress
from lora_operator.domain.observed import PodView

PLACES = 32
"""Pods that are asked at the same time."""
_UNPROVEN_PLACES = 24
"""Of these for pods that have not answered the last time. With a timeout of 2 s they allow 12 attempts a second, more
than the 8.3 a second of a thousand pods that hang and are asked every two minutes. The 8 others are enough for 67
answers a second (a thousand pods, 15 s) as long as an answer takes under 120 ms."""
_SOON = 2.0
"""Seconds within which a new pod is asked for the first time."""
_PATIENCE = 3
"""Failures in a row before a pod is asked less often: a trainer needs a while to open its port."""
_LONGEST = 120.0


class PodKey(NamedTuple):
    """The job that a pod trains for. One pod of a job is asked, so this bounds what is kept."""

    namespace: str
    job: str


@dataclass(slots=True)
class Entry:
    """One pod and what it said."""

    key: PodKey
    pod: PodView
    wanted: float
    """When a pass asked for it last."""
    progress: Progress | None = None
    failures: int = 0
    """In a row."""
    proven: bool = False
    """Whether it answered the last time."""
    answers: int = 0


class Rota:
    """Pods with the time at which each is due."""

    def __init__(self, interval: float, forget_after: float, chance: Callable[[], float]) -> None:
        """Ask each pod every `interval` seconds; `chance` returns numbers from 0 to 1."""
        self._interval = interval
        self._forget_after = forget_after
        self._chance = chance
        self._entries: dict[PodKey, Entry] = {}
        self._due: dict[bool, list[tuple[float, int, Entry]]] = {True: [], False: []}
        self._taken = {True: 0, False: 0}
        self._count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def want(self, key: PodKey, pod: PodView, now: float) -> tuple[Entry, bool]:
        """Return the entry of a pod, and whether it is new. Another pod of the same job takes its place."""
        entry = self._entries.get(key)
        if entry is not None and entry.pod.uid == pod.uid:
            entry.wanted, entry.pod = now, pod
            return entry, False
        entry = self._entries[key] = Entry(key, pod, now)
        self._put(entry, now + _SOON * self._chance())
        return entry, True

    def forget(self, key: PodKey) -> None:
        """Ask the pod of a job no more."""
        self._entries.pop(key, None)

    def take(self, now: float) -> Entry | None:
        """Return a pod that is due and has a place, one that answered the last time first; None if there is none."""
        return self._take(proven=True, now=now) or self._take(proven=False, now=now)

    def _take(self, *, proven: bool, now: float) -> Entry | None:
        due = self._due[proven]
        while due and due[0][0] <= now and self._has_place(proven):
            entry = heapq.heappop(due)[2]
            if self._entries.get(entry.key) is not entry:
                continue
            if now - entry.wanted > self._forget_after:
                self.forget(entry.key)
                continue
            self._taken[proven] += 1
            return entry
        return None

    def finish(self, entry: Entry, progress: Progress | None, now: float) -> bool:
        """Note the answer of a taken pod, or that there is none. Return whether it is news.

        The next time counts from here and not from the question, so that answers lie at least an interval apart.
        """
        self._taken[entry.proven] -= 1
        if self._entries.get(entry.key) is not entry:
            return False
        entry.proven = progress is not None
        entry.failures = 0 if progress else entry.failures + 1
        self._put(entry, now + self._pause(entry))
        if progress is None or progress == entry.progress:
            return False
        entry.progress = progress
        return True

    def wait(self, now: float) -> float | None:
        """Return the seconds until a pod is due that has a place; None if only `want` or `finish` can change that."""
        times = [due[0][0] for proven, due in self._due.items() if due and self._has_place(proven)]
        return max(0.0, min(times) - now) if times else None

    def _has_place(self, proven: bool) -> bool:
        free = PLACES - self._taken[True] - self._taken[False]
        return free > 0 and (proven or self._taken[False] < _UNPROVEN_PLACES)

    def _pause(self, entry: Entry) -> float:
        """Return the seconds until the next question.

        After its first answer a pod waits up to an interval longer, by chance: pods that were all met at once, as after
        a restart, are spread evenly from then on.
        """
        if entry.proven:
            entry.answers += 1
            return self._interval * (1 + self._chance()) if entry.answers == 1 else self._interval
        slower = max(0, entry.failures - _PATIENCE + 1)
        return max(self._interval, min(_LONGEST, self._interval * 2.0 ** min(slower, 16)))

    def _put(self, entry: Entry, due: float) -> None:
        self._count += 1
        heapq.heappush(self._due[entry.proven], (due, self._count, entry))
