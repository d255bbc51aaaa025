"""Says which pod is asked next. Values and times only: it neither waits nor speaks to a pod.

A pod that hangs holds a place for as long as the timeout, so pods that answered the last time have places that no other
can take. A thousand pods that nobody can reach slow each other down, and nobody else.
"""

import heapq
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

PLACES = 32
"""Pods that are asked at the same time."""
_UNPROVEN_PLACES = 24
"""Of these for pods that have not answered the last time. With a timeout of 2 s they allow 12 attempts a second, more
than the 8.3 a second of a thousand pods that hang and are asked every two minutes. The 8 others are enough for 67
answers a second (a thousand pods, 15 s) as long as an answer takes under 120 ms."""
_SOON = 2.0
"""Seconds within which a new pod is asked for the first time."""
_PATIENCE = 3
"""Failures in a row before a pod is asked less often: a program needs a while to open its port."""
_LONGEST = 120.0
_SHARE = 8.0
"""A young pod is asked again after its age divided by this. So it is no longer young at eight intervals, and has been
asked some 25 times by then, instead of 8 times as at rest."""
MOST_YOUNG = 50
"""More young pods than these are asked as at rest, so that a thousand jobs that begin at once are no more work than a
thousand old ones. So many are 25 answers a second when they have just been met, and 10 a second over two minutes."""
_EAGER_FOR = 30.0
"""Seconds for which a pod is asked often after it was last said that this is worth it. Nobody has to take it back, so
of several who look at the same pod none ends what another one waits for."""


def young_pause(age: float, young: int, *, first: float, rest: float) -> float:
    """Return the seconds until a pod is asked again that runs for `age` seconds.

    `young` counts the pods that are young, `first` is the pause of a new one, and `rest` that of one that is not young
    any more: a short run is heard of before it is over, and the beginning of a long one has more of its curve.
    """
    return rest if young > MOST_YOUNG else min(rest, max(first, age / _SHARE))


class PodKey(NamedTuple):
    """The job that a pod trains for. One pod of a job is asked, so this bounds what is kept."""

    namespace: str
    job: str


class Pod(Protocol):
    """What can be asked: another uid is another pod."""

    @property
    def uid(self) -> str:
        """Uid of the pod."""


K = TypeVar("K", bound=Hashable)
P = TypeVar("P", bound=Pod)
A = TypeVar("A")


@dataclass(slots=True)
class Entry(Generic[K, P, A]):
    """One pod and what it said."""

    key: K
    pod: P
    wanted: float
    """When a pass asked for it last."""
    answer: A | None = None
    failures: int = 0
    """In a row."""
    proven: bool = False
    """Whether it answered the last time."""
    answers: int = 0
    eager_until: float = float("-inf")
    due: float | None = None
    """When it is asked; None while it is."""
    ticket: int = 0
    """Number of its place among those that wait; an older place of it counts no more."""
    asked: float = 0.0
    """When it was asked last."""
    begun: float | None = None
    """When it began to run, if that is known, else when it was asked first."""
    silent_since: float | None = None
    """When it was first asked without an answer, since it last answered."""


class Rota(Generic[K, P, A]):
    """Pods with the time at which each is due."""

    def __init__(
        self,
        interval: float,
        forget_after: float,
        chance: Callable[[], float],
        *,
        eager_interval: float | None = None,
        young_interval: float | None = None,
    ) -> None:
        """Ask each pod every `interval` seconds, or `eager_interval` where somebody waits for what it says.

        A new pod is asked every `young_interval` seconds at first, see `young_pause`; without it age means nothing.
        `chance` returns numbers from 0 to 1.
        """
        self._interval = interval
        self._eager_interval = interval if eager_interval is None else eager_interval
        self._young_interval = interval if young_interval is None else young_interval
        self._met: deque[float] = deque(maxlen=MOST_YOUNG + 1)
        self._forget_after = forget_after
        self._chance = chance
        self._entries: dict[K, Entry[K, P, A]] = {}
        self._due: dict[bool, list[tuple[float, int, Entry[K, P, A]]]] = {True: [], False: []}
        self._taken = {True: 0, False: 0}
        self._count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def want(
        self, key: K, pod: P, now: float, *, eager: bool = False, age: float | None = None
    ) -> tuple[Entry[K, P, A], bool]:
        """Return the entry of a pod, and whether it is due earlier than before. Another pod takes the entry anew.

        `age` is for how long the pod runs, None if nobody knows. One that is not young has been heard of before this
        process began, so it is asked within an interval, and not at once.
        """
        entry = self._entries.get(key)
        if entry is not None and entry.pod.uid == pod.uid:
            entry.wanted, entry.pod = now, pod
            return entry, eager and self._hurry(entry, now)
        entry = self._entries[key] = Entry(key, pod, now)
        entry.eager_until = now + _EAGER_FOR if eager else entry.eager_until
        if age is not None:
            self._meet(entry, now, age)
        is_old = age is not None and age >= _SHARE * self._interval
        longest = min(_SOON, self._eager_interval) if eager else self._interval if is_old else _SOON
        self._put(entry, now + longest * self._chance())
        return entry, True

    def _meet(self, entry: Entry[K, P, A], now: float, age: float) -> None:
        entry.begun = now - age
        if age < _SHARE * self._interval:
            self._met.append(now)

    def last(self, key: K, uid: str) -> Entry[K, P, A] | None:
        """Return the entry of the pod of a uid, None if there is none."""
        entry = self._entries.get(key)
        return entry if entry is not None and entry.pod.uid == uid else None

    def forget(self, key: K) -> None:
        """Ask the pod no more."""
        self._entries.pop(key, None)

    def take(self, now: float) -> Entry[K, P, A] | None:
        """Return a pod that is due and has a place, one that answered the last time first; None if there is none."""
        return self._take(proven=True, now=now) or self._take(proven=False, now=now)

    def _take(self, *, proven: bool, now: float) -> Entry[K, P, A] | None:
        due = self._due[proven]
        while due and due[0][0] <= now and self._has_place(proven):
            _, ticket, entry = heapq.heappop(due)
            if self._entries.get(entry.key) is not entry or entry.ticket != ticket:
                continue
            if now - entry.wanted > self._forget_after:
                self.forget(entry.key)
                continue
            self._taken[proven] += 1
            entry.due, entry.asked = None, now
            if entry.begun is None:
                self._meet(entry, now, 0.0)
            return entry
        return None

    def finish(self, entry: Entry[K, P, A], answer: A | None, now: float) -> bool:
        """Note the answer of a taken pod, or that there is none. Return whether it is news.

        The next time counts from here and not from the question, so that answers lie at least an interval apart.
        """
        self._taken[entry.proven] -= 1
        if self._entries.get(entry.key) is not entry:
            return False
        entry.proven = answer is not None
        entry.failures = 0 if entry.proven else entry.failures + 1
        if entry.proven:
            entry.silent_since = None
        elif entry.silent_since is None:
            entry.silent_since = entry.asked
        self._put(entry, now + self._pause(entry, now))
        if answer is None or answer == entry.answer:
            return False
        entry.answer = answer
        return True

    def wait(self, now: float) -> float | None:
        """Return the seconds until a pod is due that has a place; None if only `want` or `finish` can change that."""
        times = [due[0][0] for proven, due in self._due.items() if due and self._has_place(proven)]
        return max(0.0, min(times) - now) if times else None

    def _has_place(self, proven: bool) -> bool:
        free = PLACES - self._taken[True] - self._taken[False]
        return free > 0 and (proven or self._taken[False] < _UNPROVEN_PLACES)

    def _hurry(self, entry: Entry[K, P, A], now: float) -> bool:
        """Ask a pod often from now on. Return whether it is due earlier than before.

        One that was asked often already keeps its time, so that looking at it does not make it due.
        """
        rested = entry.eager_until < now
        entry.eager_until = now + _EAGER_FOR
        hangs = not entry.proven and entry.failures >= _PATIENCE
        due = now + (self._interval if hangs else self._eager_interval) * self._chance()
        if not rested or entry.due is None or entry.due <= due:
            return False
        self._put(entry, due)
        return True

    def _pause(self, entry: Entry[K, P, A], now: float) -> float:
        """Return the seconds until the next question.

        After its first answer a pod waits up to an interval longer, by chance: pods that were all met at once, as after
        a restart, are spread evenly from then on.
        """
        eager = now <= entry.eager_until
        interval = self._eager_interval if eager else self._resting(entry, now)
        if entry.proven:
            entry.answers += 1
            return interval * (1 + self._chance()) if entry.answers == 1 else interval
        slower = max(0, entry.failures - _PATIENCE + 1)
        often = eager or interval < self._interval
        longest = max(interval, min(self._interval, _LONGEST) if often else _LONGEST)
        return max(interval, min(longest, interval * 2.0 ** min(slower, 16)))

    def _resting(self, entry: Entry[K, P, A], now: float) -> float:
        """Return the seconds between two questions to a pod for which nobody waits.

        Those that have gone by now count as young too, since others like them may follow.
        """
        while self._met and now - self._met[0] >= _SHARE * self._interval:
            self._met.popleft()
        age = now - (now if entry.begun is None else entry.begun)
        return young_pause(age, len(self._met), first=self._young_interval, rest=self._interval)

    def _put(self, entry: Entry[K, P, A], due: float) -> None:
        self._count += 1
        entry.due, entry.ticket = due, self._count
        heapq.heappush(self._due[entry.proven], (due, self._count, entry))
