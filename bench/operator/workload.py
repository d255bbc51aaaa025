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
_LEAST, _LONGEST_JOB = 60.0, 0.5
"""Seconds after which something is wrong, even on a slow machine: for anything, and for each job."""
_END = 300.0
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

    async def all_are(self, resource: str, what: Callable[[Document], bool], count: int) -> bool:
        """Return whether there are so many objects, and something is true of each."""
        self.check()
        objects = await self.api.list(resource)
        done = sum(map(what, objects))
        say(f"{self.contender.name}: {done:,} of {count:,}")
        return len(objects) == count == done

    def own(self, requests: Iterable[Request]) -> list[Request]:
        """Return the requests of the contender."""
        return [each for each in requests if each.user in self.contender.users]


@asynccontextmanager
async def stage(cluster: Cluster, api: Api, contender: Contender, prefix: str, count: int) -> AsyncIterator[Stage]:
    """Yield new namespaces of a prefix with a running contender; then end it, and clear its objects away."""
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
    finally:
        contender.stop()
    await _clear(cluster, api, contender, namespaces)


async def burst(on: Stage, kind: Kind, count: int) -> Measured:
    """Create jobs as fast as the server takes them; wait until each is done, or runs if it does not end."""
    mark, before = on.cluster.audit.mark(), on.usage()
    await _create(on, kind, count)
    await _finish(on, kind, count)
    return _measure(on, mark, before, count)


async def rate(on: Stage, kind: Kind, a_second: float, count: int) -> Measured:
    """Create jobs one after the other, at a steady rate whatever the server does; wait as `burst` does."""
    mark, before = on.cluster.audit.mark(), on.usage()
    await _create_steadily(on, kind, a_second, count)
    await _finish(on, kind, count)
    return _measure(on, mark, before, count)


async def alone(on: Stage, kind: Kind, count: int, a_second: float | None = None) -> Measured:
    """Create jobs while no Job gets a pod, as fast as can be or steadily; wait until each has its child Job."""
    with on.cluster.without_pods():
        mark, before = on.cluster.audit.mark(), on.usage()
        if a_second is None:
            await _create(on, kind, count)
        else:
            await _create_steadily(on, kind, a_second, count)
        await _children(on, count)
        await quiet(on)
        return _measure(on, mark, before, count)


async def _create(on: Stage, kind: Kind, count: int) -> None:
    await on.api.create_all(_new(on, kind, range(count)))
    say(f"{on.contender.name}: {count:,} jobs created")


async def _create_steadily(on: Stage, kind: Kind, a_second: float, count: int) -> None:
    loop = asyncio.get_running_loop()
    started, tasks = loop.time(), []
    for number, (path, document) in enumerate(_new(on, kind, range(count))):
        await asyncio.sleep(max(0.0, started + number / a_second - loop.time()))
        tasks.append(asyncio.create_task(on.api.create(path, document)))
    await asyncio.gather(*tasks)
    say(f"{on.contender.name}: {count:,} jobs created")


async def _children(on: Stage, count: int) -> None:
    async def there() -> bool:
        on.check()
        return await on.api.count(_JOBS) >= count

    await until("all child Jobs", there, seconds=_limit(count), interval=0.2, cluster=on.cluster)


async def _finish(on: Stage, kind: Kind, count: int) -> None:
    await _children(on, count)
    who = on.contender
    resource, what = (who.resource, who.is_done) if kind.short else (who.running_resource, who.is_running)
    await until(
        "all jobs", lambda: on.all_are(resource, what, count), seconds=_limit(count), interval=1.0, cluster=on.cluster
    )
    await quiet(on)


def _limit(count: int) -> float:
    return _LEAST + _LONGEST_JOB * count


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
    measured = Measured(
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
    say(
        f"{on.contender.name}: child Jobs after {measured.to_children:.1f} s, p99 {measured.percentile(0.99):.3f} s, "
        f"{measured.a_job(measured.writes):.2f} writes and {used.contender / count:.3f} CPU seconds a job"
    )
    return measured


async def _clear(cluster: Cluster, api: Api, contender: Contender, namespaces: tuple[str, ...]) -> None:
    """Delete all objects. The empty namespaces stay: they cost nothing, and their end takes minutes."""
    say("clears away")
    everything = (contender.resource, *contender.left_resources)
    paths = [collection(resource, each) for resource in everything for each in namespaces]
    await asyncio.gather(*(api.delete(f"{path}?propagationPolicy=Background") for path in paths))

    async def ended() -> bool:
        return sum([await api.count(resource) for resource in (*everything, _JOBS, _PODS)]) == 0

    await until("no job left", ended, seconds=_END, interval=0.5, cluster=cluster)


async def _is_full(api: Api, path: str) -> bool:
    return await api.count(path) > 0


def _namespace(name: str) -> Document:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
