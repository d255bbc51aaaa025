"""From a workload to a trace: calls the contender that it names. Runs in the contender's own process."""

from collections.abc import Callable
from typing import Any

from bench.trainer.observe import take_peaks
from bench.trainer.workload import Trace, Workload, decode_workload


def train(request: dict[str, Any]) -> Trace:
    """Run a training and return what was seen of it."""
    workload = decode_workload(request)
    return take_peaks(_way_of(workload.contender.kind)(workload))


def _way_of(kind: str) -> Callable[[Workload], Trace]:
    """Return the function of a kind of contender. Each imports what it needs alone: imports are memory too."""
    if kind == "ours":
        from bench.trainer.ours import train_ours

        return train_ours
    from bench.trainer import peers

    ways = {"by hand": peers.train_by_hand, "trainer": peers.train_with_trainer, "trl": peers.train_with_trl}
    return ways[kind]
