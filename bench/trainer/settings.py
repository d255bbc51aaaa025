"""How long a run is, and what is the same in all measurements."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.trainer.isolation import run_alone
from bench.trainer.report import Section, say
from bench.trainer.workload import Contender, Trace, Workload, encode


@dataclass(frozen=True)
class Settings:
    """Settings of a whole run. A quick one takes tiny models and a few steps, and measures nothing."""

    quick: bool
    threads: int
    repeats: int
    scratch: Path

    def pick(self, usual: int, quick: int) -> int:
        """Return a size: the usual one, or that of a quick run."""
        return quick if self.quick else usual


Measurement = Callable[[Settings], list[Section]]


def take_turns(
    settings: Settings,
    title: str,
    contenders: Sequence[Contender],
    workload: Callable[[Contender], Workload],
    *,
    repeats: int | None = None,
    threads: int | None = None,
) -> dict[str, list[Trace]]:
    """Run each contender `repeats` times, A B A B, and return the traces by name. A trace that is no training fails."""
    traces: dict[str, list[Trace]] = {each.name: [] for each in contenders}
    count = repeats or settings.repeats
    for turn in range(1, count + 1):
        for each in contenders:
            say(f"{title}: {each.name}, {turn} of {count}")
            answer = run_alone("train", encode(workload(each)), threads=threads or settings.threads)
            trace = Trace(**answer)
            trace.check(f"{title}, {each.name}")
            traces[each.name].append(trace)
    return traces
