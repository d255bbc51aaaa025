"""Processor time during a measurement: the contender's, the cluster's, the benchmark's own, and that of strangers.

Strangers make every number of a shared machine worse, so the tables say how much they took.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from bench.operator.cluster import Cluster
from bench.operator.contender import Contender

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """Processor seconds, since some beginning or between two moments."""

    clock: float
    contender: float
    cluster: float
    benchmark: float
    machine: float
    """Of everything that runs on it."""

    def __sub__(self, earlier: "Usage") -> "Usage":
        """Return what was used in between."""
        return Usage(
            self.clock - earlier.clock,
            self.contender - earlier.contender,
            self.cluster - earlier.cluster,
            self.benchmark - earlier.benchmark,
            self.machine - earlier.machine,
        )

    @property
    def strangers(self) -> float:
        """Processors that others kept busy on average."""
        return max(0.0, self.machine - self.contender - self.cluster - self.benchmark) / self.clock

    def shares(self) -> str:
        """Return how many processors each kept busy on average."""
        parts = {"the operator": self.contender, "the cluster": self.cluster, "the benchmark": self.benchmark}
        told = [f"{name} {used / self.clock:.2f}" for name, used in parts.items()]
        return ", ".join([*told, f"strangers {self.strangers:.2f}"])


NOTHING = Usage(0.0, 0.0, 0.0, 0.0, 0.0)


def usage(cluster: Cluster, contender: Contender) -> Usage:
    """Return what was used until now."""
    return Usage(
        clock=time.monotonic(),
        contender=sum(each.cpu_seconds() for each in contender.processes),
        cluster=sum(cluster.cpu_seconds().values()),
        benchmark=time.process_time(),
        machine=_machine(),
    )


def _machine() -> float:
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, interrupts, soft = (int(each) for each in fields[:7])
    return (user + nice + system + interrupts + soft) / _TICKS
