"""What an operator costs while its jobs run and nobody asks for anything, and what a restart costs."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from bench.operator.audit import Request, by_kind
from bench.operator.client import until
from bench.operator.usage import Usage
from bench.operator.workload import Stage
from bench.trainer.report import say

_LIMIT = 300.0
_WATCHED = 35.0
"""Seconds after a restart in which a needless write would come: two rounds of questions to the pods."""


@dataclass(frozen=True)
class Rest:
    """A time without any news."""

    seconds: float
    used: Usage
    rss: dict[str, float]
    """Resident MB of each process."""
    writes: Counter[str]
    reads: Counter[str]


@dataclass(frozen=True)
class Restart:
    """A kill, and the start of the next process."""

    in_sync: float
    """Seconds from the start of the process until it has looked at every job."""
    cpu: float
    """Processor seconds until then."""
    writes: Counter[str]
    """Until two rounds of questions to the pods later."""
    reads: Counter[str]


async def rest(on: Stage, seconds: float) -> Rest:
    """Do nothing for a time."""
    say(f"{on.contender.name}: rests for {seconds:.0f} s")
    mark, before = on.cluster.audit.mark(), on.usage()
    await asyncio.sleep(seconds)
    used = on.usage() - before
    memory = {each.name: each.rss_mb() for each in on.contender.processes}
    writes, reads = _split(on.own(on.cluster.audit.since(mark)))
    return Rest(seconds, used, memory, writes, reads)


async def restart(on: Stage, jobs: int) -> Restart:
    """Kill the operator, and start it again."""
    on.contender.kill()
    mark, started = on.cluster.audit.mark(), time.monotonic()
    await on.contender.start()

    async def synced() -> bool:
        on.check()
        return await on.contender.is_in_sync(jobs)

    await until("an operator in sync", synced, seconds=_LIMIT, interval=0.2, cluster=on.cluster)
    in_sync, cpu = time.monotonic() - started, on.usage().contender
    say(f"{on.contender.name}: in sync after {in_sync:.1f} s")
    await asyncio.sleep(_WATCHED)
    writes, reads = _split(on.own(on.cluster.audit.since(mark)))
    return Restart(in_sync, cpu, writes, reads)


def _split(requests: Iterable[Request]) -> tuple[Counter[str], Counter[str]]:
    """Return writes and reads."""
    requests = list(requests)
    writes = by_kind(each for each in requests if each.is_write)
    return writes, by_kind(each for each in requests if not each.is_write)
