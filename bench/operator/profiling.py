"""Where the operator's own time goes, by cProfile. It slows everything down, so nothing else is measured with it."""

import io
import pstats
from pathlib import Path

from bench.operator import workload
from bench.operator.client import Api
from bench.operator.cluster import running
from bench.operator.contender import Kind
from bench.operator.measurements import Settings
from bench.operator.ours import GROUPS, USER, Ours
from bench.operator.pods import answering

_LINES = 40


async def run(folder: Path, settings: Settings, nodes: int) -> str:
    """Return the functions that cost most over short lives, by their own time and with what they call."""
    with running(folder, {USER: GROUPS}, nodes) as cluster:
        async with Api(cluster) as api, answering():
            ours = Ours(cluster, profile=folder)
            async with workload.stage(cluster, api, ours, "profile", settings.namespaces) as on:
                await workload.burst(on, Kind(short=True), settings.jobs)
    text = io.StringIO()
    costs = pstats.Stats(str(folder / "0.prof"), stream=text)
    for order in ("tottime", "cumulative"):
        costs.sort_stats(order).print_stats(_LINES)
    return text.getvalue()
