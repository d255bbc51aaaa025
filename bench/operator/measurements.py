"""The measurements of one contender, in an order in which one prepares the next."""

from contextlib import AbstractAsyncContextManager
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
    steady_jobs: int
    """How many there."""
    rest_seconds: float


@dataclass
class Found:
    """What was measured of one contender."""

    name: str
    alone: Measured
    """All at once, while no Job gets a pod."""
    alone_rate: Measured
    """Some a second, likewise."""
    rate: Measured
    long: Measured
    """All at once, and the pods run on."""
    rest: Rest
    asked: int
    """Questions to pods until then."""
    restart: Restart
    short: Measured
    """All at once, and the pods end soon."""
    preflight: list[Measured] = field(default_factory=list)
    """None of a contender that knows no preflight."""


async def measure(cluster: Cluster, api: Api, pods: Pods, contender: Contender, settings: Settings) -> Found:
    """Measure one contender."""
    jobs, steady, a_second = settings.jobs, settings.steady_jobs, settings.a_second

    def stage(prefix: str) -> AbstractAsyncContextManager[workload.Stage]:
        return workload.stage(cluster, api, contender, f"{contender.short_name}-{prefix}", settings.namespaces)

    async with stage("alone") as on:
        alone = await workload.alone(on, Kind(), jobs)
    async with stage("alone-rate") as on:
        alone_rate = await workload.alone(on, Kind(), steady, a_second)
    async with stage("rate") as on:
        rate = await workload.rate(on, Kind(), a_second, steady)
    async with stage("long") as on:
        before = pods.asked
        long = await workload.burst(on, Kind(), jobs)
        rest = await resting.rest(on, settings.rest_seconds)
        asked = pods.asked - before
        restart = await resting.restart(on, jobs)
    async with stage("short") as on:
        short = await workload.burst(on, Kind(short=True), jobs)
    found = Found(contender.name, alone, alone_rate, rate, long, rest, asked, restart, short)
    if contender.has_preflight:
        async with stage("preflight") as on:
            found.preflight.append(await workload.burst(on, Kind(short=True, preflight=True), settings.steady_jobs))
    return found
