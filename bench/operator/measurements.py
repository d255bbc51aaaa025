"""The measurements of one contender, in an order in which one prepares the next."""

from dataclasses import dataclass, field

from bench.operator import resting, workload
from bench.operator.client import Api
from bench.operator.cluster import Cluster
from bench.operator.contender import Contender, Kind
from bench.operator.pods import Pods
from bench.operator.resting import Rest, Restart
from bench.operator.workload import Measured


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    jobs: int
    namespaces: int
    a_second: float
    """Jobs created a second where the rate is fixed."""
    rest_seconds: float


@dataclass
class Found:
    """What was measured of one contender."""

    name: str
    long: Measured
    rest: Rest
    restart: Restart
    asked: int
    """Questions to pods while the jobs ran."""
    rate: Measured
    short: Measured
    preflight: list[Measured] = field(default_factory=list)
    """None of a contender that knows no preflight."""


async def measure(cluster: Cluster, api: Api, pods: Pods, contender: Contender, settings: Settings) -> Found:
    """Measure one contender."""
    jobs, namespaces = settings.jobs, settings.namespaces
    async with workload.stage(cluster, api, contender, "rate", namespaces) as on:
        rate = await workload.rate(on, Kind(), settings.a_second, jobs)
    async with workload.stage(cluster, api, contender, "long", namespaces) as on:
        before = pods.asked
        long = await workload.burst(on, Kind(), jobs)
        rest = await resting.rest(on, settings.rest_seconds)
        asked = pods.asked - before
        restart = await resting.restart(on, jobs)
    async with workload.stage(cluster, api, contender, "short", namespaces) as on:
        short = await workload.burst(on, Kind(short=True), jobs)
    found = Found(contender.name, long, rest, restart, asked, rate, short)
    if contender.has_preflight:
        async with workload.stage(cluster, api, contender, "preflight", namespaces) as on:
            found.preflight.append(await workload.burst(on, Kind(short=True, preflight=True), jobs))
    return found
