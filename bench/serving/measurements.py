"""The measurements, in an order in which one prepares the next."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.operator.audit import Request, by_kind
from bench.trainer.report import say

if TYPE_CHECKING:
    from bench.serving.stage import Stage

OPERATOR = "lora-operator"
_TICKS = os.sysconf("SC_CLK_TCK")
_KIB = 1024
_FIRST_SECONDS = 1800.0
_UPDATE_SECONDS = 300.0
_SETTLE_SECONDS = 60.0
"""Pause before the rest is measured: agents are asked often for half a minute after a change."""


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    adapters: int
    pods: int
    each: int
    """Adapters that a pod asks for."""
    updates: int
    """Repeats of each kind of update."""
    rest_seconds: float

    def changed(self, values: dict[str, Any]) -> Settings:
        """Return the settings with other values."""
        return replace(self, **values)


@dataclass
class Found:
    """What was measured. Times are seconds."""

    first: float = 0.0
    """From the first pod until all engines serve everything: 50 agents start meanwhile."""
    first_cpu: float = 0.0
    """Processor seconds of the operator in it."""
    refused: int = 0
    """Creations of pods that the webhook refused for lack of time."""
    first_writes: Counter[str] = field(default_factory=Counter)
    rollouts: list[float] = field(default_factory=list)
    """Canary first, then a quarter of the pods at a time."""
    at_once: list[float] = field(default_factory=list)
    """All pods at the same time."""
    update_writes: list[int] = field(default_factory=list)
    """Writes of the operator for one update of the first kind."""
    rest_requests: Counter[str] = field(default_factory=Counter)
    rest_cpu: float = 0.0
    """Processor seconds of the operator in a minute."""
    agent_cpu: float = 0.0
    """Processor seconds of one agent in a minute, the median."""
    operator_rss: float = 0.0
    """MB, as all below."""
    agent_rss: list[float] = field(default_factory=list)


def measure(on: Stage, settings: Settings) -> Found:
    """Measure everything. Raises where the work was not really done."""
    found = Found()
    _first(on, found)
    for number in range(settings.updates):
        mark = on.audit.mark()
        found.rollouts.append(_update(on, 1000 + number, f"rollout {number + 1}"))
        found.update_writes.append(sum(each.is_write for each in _own(on, mark)))
    on.world.objects.patch("LoRAAdapter", on.names[0], {"spec": {"rollout": {"canary": False, "stepPercent": 100}}})
    for number in range(settings.updates):
        found.at_once.append(_update(on, 2000 + number, f"all at once {number + 1}"))
    on.prove()
    _rest(on, settings.rest_seconds, found)
    return found


def _first(on: Stage, found: Found) -> None:
    on.publish_all()
    say(f"{len(on.names)} LoRAAdapters are there")
    mark, cpu, started = on.audit.mark(), _cpu(_operator(on)), time.monotonic()
    on.create_pods()
    on.find_pods()
    on.wait("all pods serve everything", _FIRST_SECONDS)
    found.first = time.monotonic() - started
    found.first_cpu = _cpu(_operator(on)) - cpu
    found.refused = on.refused
    found.first_writes = by_kind(each for each in _own(on, mark) if each.is_write)
    say(f"from nothing to all served: {found.first:.1f} s")
    for name in on.names:
        asked = sum(name in on.names_of(number) for number in range(len(on.pods)))
        if asked:
            on.world.wait_until_ready(name, on.versions[name], seconds=120)
    on.prove()


def _update(on: Stage, seed: int, what: str) -> float:
    """Change the adapter that all pods serve, and return the seconds until all engines serve the new one."""
    name = on.names[0]
    new = on.world.publish(seed)
    on.versions[name] = new
    started = time.monotonic()
    on.world.move(name, new)
    on.wait(f"all pods serve the new version ({what})", _UPDATE_SECONDS)
    seconds = time.monotonic() - started
    say(f"{what}: {seconds:.2f} s")
    on.world.wait_until_ready(name, new)  # the next update is to find no rollout under way
    return seconds


def _rest(on: Stage, seconds: float, found: Found) -> None:
    time.sleep(_SETTLE_SECONDS)
    say(f"rests for {seconds:.0f} s")
    agents = [each.agent.process.pid for each in on.pods if each.agent.process]
    mark, before = on.audit.mark(), _cpu(_operator(on))
    agents_before = [_cpu(each) for each in agents]
    time.sleep(seconds)
    minutes = seconds / 60
    found.rest_cpu = (_cpu(_operator(on)) - before) / minutes
    found.agent_cpu = median((_cpu(pid) - was) / minutes for pid, was in zip(agents, agents_before, strict=True))
    found.rest_requests = by_kind(_own(on, mark))
    found.operator_rss = _rss(_operator(on))
    found.agent_rss = [_rss(each) for each in agents]
    if len(agents) != on.settings.pods or not on.serve_what_they_should():
        raise RuntimeError("at the end not every pod has an agent, and serves what it should")


def _own(on: Stage, mark: int) -> list[Request]:
    return [each for each in on.audit.since(mark) if each.user == OPERATOR]


def _operator(on: Stage) -> int:
    return on.world.operator.process.pid


def _cpu(pid: int) -> float:
    """Return the processor seconds of a process until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _rss(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(each for each in lines if each.startswith("VmRSS:")).split()[1]) * _KIB / 1e6
