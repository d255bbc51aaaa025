"""`make bench-operator`: every measurement of both operators, and a table of each.

A goal that is missed is told and is no error; a job that does not get its pod, or does not end well, is one.
"""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.operator import profiling, tables, trainer
from bench.operator.client import Api
from bench.operator.cluster import running
from bench.operator.contender import Contender
from bench.operator.measurements import Found, Settings, measure
from bench.operator.ours import GROUPS, USER, Ours
from bench.operator.pods import answering
from bench.trainer.report import RESULTS, record, say

_NODES = 20
_QUICK = Settings(jobs=100, namespaces=20, a_second=10, steady_jobs=100, rest_seconds=20)
_FULL = Settings(jobs=1000, namespaces=20, a_second=10, steady_jobs=300, rest_seconds=30)


def main(arguments: Sequence[str]) -> int:
    """Run the measurements; return the exit code."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # a run that is cut off tidies up as well
    settings = _QUICK if options.quick else _FULL
    command = " ".join(["make bench-operator", *([f'BENCH="{" ".join(arguments)}"'] if arguments else [])])
    started = datetime.now(UTC)
    heading = tables.heading(command, started.date(), settings, quick=options.quick)
    folder = Path(tempfile.mkdtemp(prefix="bench-operator-"))
    try:
        if options.profile:
            print(asyncio.run(profiling.run(folder, settings, _NODES)))
            return 0
        found = asyncio.run(_measure(folder, settings, options.only))
    except BaseException:
        say(f"the logs of all processes are in {folder}")
        raise
    shutil.rmtree(folder)
    minutes = (datetime.now(UTC) - started).total_seconds() / 60
    text = "\n".join([heading, *(each.markdown() for each in tables.sections(found))])
    text += f"\nThe run took {minutes:.0f} minutes.\n"
    print(text)
    if options.record:
        record(text)
    return 0


async def _measure(folder: Path, settings: Settings, only: Sequence[str]) -> list[Found]:
    users = {USER: GROUPS, **trainer.USERS}
    found = []
    with running(folder, users, _NODES) as cluster:
        async with Api(cluster) as api, answering() as pods:
            for name in only:  # one after the other, for JobSet's webhooks see all pods
                contender = _CONTENDERS[name](cluster)
                found.append(await measure(cluster, api, pods, contender, settings))
                say("\n" + "\n".join(each.markdown() for each in tables.sections(found[-1:])))  # if the next one fails
    return found


_CONTENDERS: Mapping[str, type[Contender]] = {"ours": Ours, "trainer": trainer.Trainer}


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.operator", description="Measure the operator beside Trainer.")
    parser.add_argument("--only", type=_names, default=list(_CONTENDERS), help="ours or trainer; default: both")
    parser.add_argument("--quick", action="store_true", help="100 jobs instead of 1,000")
    parser.add_argument("--record", action="store_true", help=f"append the tables to {RESULTS.name}")
    parser.add_argument("--profile", action="store_true", help="run ours under cProfile, and tell what costs most")
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - _CONTENDERS.keys()):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(_CONTENDERS)}")
    return names


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
