"""Runs jobs through a contender, and measures: as many as can be at once, or some a second."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bench.operator.audit import Request, by_kind
from bench.operator.client import Api, until
from bench.operator.cluster import Cluster
from bench.operator.contender import Contender, Document, Kind, collection, owner_of
from bench.operator.usage import NOTHING, Usage, usage
from bench.trainer.report import say

_JOBS = "/apis/batch/v1/jobs"
_PODS = "/api/v1/pods"
_END = 900.0
"""Longest time for anything, on a slow machine."""
_CHILDREN = frozenset({"create", "patch"})


@dataclass
class Measured:
    """What one contender needed for one workload."""

    jobs: int
    to_children: float = 0.0
    """Seconds from the first request of a user to the answer to the last creation of a first child Job."""
    creating: float = 0.0
    """Of these, seconds that the user's requests took."""
    latencies: list[float] = field(default_factory=list)
    """Seconds from a user's request to the answer to the creation of its first child Job, in order."""
    to_end: float = 0.0
    """Seconds from the first request until all jobs were seen done, or running."""
    used: Usage = NOTHING
    """Processor seconds from the first request until the contender was quiet."""
    writes: Counter[str] = field(default_factory=Counter)
    """Requests that asked for a change, by verb and resource."""
    refused: Counter[str] = field(default_factory=Counter)
    """Those of them that the server did not do."""
    reads: Counter[str] = field(default_factory=Counter)
    """All others."""

    def percentile(self, share: float) -> float:
        """Return a percentile of the latencies: the least one that so many do not exceed."""
        return self.latencies[min(len(self.latencies) - 1, round(share * len(self.latencies)))]

    def a_job(self, requests: Counter[str]) -> float:
        """Return requests for each job."""
        return requests.total() / self.jobs


@dataclass(frozen=True)
class Stage:
    """Where a workload runs."""

    cluster: Cluster
    api: Api
    contender: Contender
    namespaces: tuple[str, ...]

    def usage(self) -> Usage:
        """Return the processor seconds until now."""
        return usage(self.cluster, self.contender)

    def check(self) -> None:
        """Raise RuntimeError if anything has ended."""
        for each in self.contender.processes:
            each.check()

    async def jobs(self) -> list[Document]:
        """Return all jobs of the contender."""
        return await self.api.list(self.contender.resource)

    async def all_are(self, what: Callable[[Document], bool], count: int) -> bool:
        """Return whether there are so many jobs, and something is true of each."""
        self.check()
        jobs = await self.jobs()
        done = sum(map(what, jobs))
        say(f"{self.contender.name}: {done:,} of {count:,}")
        return len(jobs) == count == done

    def own(self, requests: Iterable[Request]) -> list[Request]:
        """Return the requests of the contender."""
        return [each for each in requests if each.user in self.contender.users]


@asynccontextmanager
async def stage(cluster: Cluster, api: Api, contender: Contender, prefix: str, count: int) -> AsyncIterator[Stage]:
    """Yield namespaces of a prefix with a running contender, and clear both away."""
    namespaces = tuple(f"{prefix}-{number:02d}" for number in range(count))
    await api.create_all([("/api/v1/namespaces", _namespace(name)) for name in namespaces])
    for each in namespaces:
        accounts = f"/api/v1/namespaces/{each}/serviceaccounts"
        await until(
            "a default account", lambda at=accounts: _is_full(api, at), seconds=60, interval=0.1, cluster=cluster
        )
    await contender.start()
    try:
        yield Stage(cluster, api, contender, namespaces)
        await _clear(cluster, api, contender, namespaces)
    finally:
        contender.stop()


async def burst(on: Stage, kind: Kind, count: int) -> Measured:
    """Create jobs as fast as the server takes them; wait until each is done, or runs if it does not end."""
    mark, before = on.cluster.audit.mark(), on.usage()
    await on.api.create_all(_new(on, kind, range(count)))
    say(f"{on.contender.name}: {count:,} jobs created")
    await _finish(on, kind, count)
    return _measure(on, mark, before, count)


async def rate(on: Stage, kind: Kind, a_second: float, count: int) -> Measured:
    """Create jobs one after the other, at a steady rate whatever the server does; wait until each is done."""
    mark, before = on.cluster.audit.mark(), on.usage()
    loop = asyncio.get_running_loop()
    started, tasks = loop.time(), []
    for number, (path, document) in enumerate(_new(on, kind, range(count))):
        await asyncio.sleep(max(0.0, started + number / a_second - loop.time()))
        tasks.append(asyncio.create_task(on.api.create(path, document)))
    await asyncio.gather(*tasks)
    say(f"{on.contender.name}: {count:,} jobs created")
    await _finish(on, kind, count)
    return _measure(on, mark, before, count)


async def _finish(on: Stage, kind: Kind, count: int) -> None:
    async def children() -> bool:
        on.check()
        return await on.api.count(_JOBS) >= count

    await until("all child Jobs", children, seconds=_END, interval=0.2, cluster=on.cluster)
    what = on.contender.is_done if kind.short else on.contender.is_running
    await until("all jobs", lambda: on.all_are(what, count), seconds=_END, interval=1.0, cluster=on.cluster)
    await quiet(on)


async def quiet(on: Stage, seconds: float = 3.0) -> None:
    """Wait until the contender has asked for no change for some time."""

    async def silent() -> bool:
        mark = on.cluster.audit.mark()
        await asyncio.sleep(seconds)
        return not any(each.is_write for each in on.own(on.cluster.audit.since(mark)))

    await until("a quiet contender", silent, seconds=_END, interval=0, cluster=on.cluster)


def _new(on: Stage, kind: Kind, numbers: Iterable[int]) -> list[tuple[str, Document]]:
    made = []
    for number in numbers:
        path = collection(on.contender.resource, on.namespaces[number % len(on.namespaces)])
        made.append((path, on.contender.job(f"job{number:04d}", kind)))
    return made


def _measure(on: Stage, mark: int, before: Usage, count: int) -> Measured:
    used = on.usage() - before
    requests = on.cluster.audit.since(mark)
    plural = on.contender.resource.rpartition("/")[2]
    asked = {each.name: each for each in requests if (each.verb, each.resource) == ("create", plural)}
    own = on.own(requests)
    children: dict[str, float] = {}
    for each in own:
        if each.resource == "jobs" and each.verb in _CHILDREN and each.succeeded:
            children.setdefault(owner_of(each), each.answered)
    if asked.keys() != children.keys() or len(asked) != count:
        raise RuntimeError(f"{len(asked)} jobs were asked for, and {len(children)} got a child; {count} are expected")
    first = min(each.received for each in asked.values())
    writes = [each for each in own if each.is_write]
    return Measured(
        jobs=count,
        to_children=max(children.values()) - first,
        creating=max(each.answered for each in asked.values()) - first,
        latencies=sorted(children[name] - each.received for name, each in asked.items()),
        to_end=max(each.answered for each in own) - first,
        used=used,
        writes=by_kind(writes),
        refused=by_kind(each for each in writes if not each.succeeded),
        reads=by_kind(each for each in own if not each.is_write),
    )


async def _clear(cluster: Cluster, api: Api, contender: Contender, namespaces: tuple[str, ...]) -> None:
    say("clears away")
    for each in namespaces:
        await api.delete(f"{collection(contender.resource, each)}?propagationPolicy=Background")

    async def ended() -> bool:
        return await api.count(contender.resource) + await api.count(_JOBS) + await api.count(_PODS) == 0

    await until("no job left", ended, seconds=_END, interval=0.5, cluster=cluster)
    for each in namespaces:
        await api.delete(f"/api/v1/namespaces/{each}")

    async def gone() -> bool:
        left = {each["metadata"]["name"] for each in await api.list("/api/v1/namespaces")}
        return not left & set(namespaces)

    await until("no namespace left", gone, seconds=_END, interval=1.0, cluster=cluster)


async def _is_full(api: Api, path: str) -> bool:
    return await api.count(path) > 0


def _namespace(name: str) -> Document:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
