"""`make bench-serving`: hundreds of adapters in dozens of pods, from nothing, through updates, and at rest."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.serving import tables
from bench.serving.measurements import Found, Settings, measure
from bench.serving.stage import stage
from bench.trainer.report import RESULTS, record, say

_QUICK = Settings(adapters=10, pods=4, each=4, updates=2, rest_seconds=20)
_FULL = Settings(adapters=200, pods=50, each=5, updates=3, rest_seconds=60)


def main(arguments: Sequence[str]) -> int:
    """Run the measurements; return the exit code."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # a run that is cut off tidies up as well
    settings = _settings(options)
    command = " ".join(["make bench-serving", *([f'BENCH="{" ".join(arguments)}"'] if arguments else [])])
    started, load = datetime.now(UTC), os.getloadavg()[0]
    folder = Path(tempfile.mkdtemp(prefix="bench-serving-"))
    try:
        found = _measure(folder, settings)
    except BaseException:
        say(f"the logs of all processes are in {folder}")
        raise
    shutil.rmtree(folder)
    minutes = (datetime.now(UTC) - started).total_seconds() / 60
    heading = tables.heading(command, started.date(), load, settings, quick=options.quick)
    text = "\n".join([heading, tables.table(settings, found).markdown(), f"The run took {minutes:.0f} minutes.\n"])
    print(text)
    if options.record:
        record(text)
    return 0


def _measure(folder: Path, settings: Settings) -> Found:
    with stage(folder, settings) as on:
        return measure(on, settings)


def _settings(options: argparse.Namespace) -> Settings:
    base = _QUICK if options.quick else _FULL
    given = {name: getattr(options, name) for name in ("adapters", "pods", "each")}
    return base.changed({name: value for name, value in given.items() if value is not None})


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.serving", description="Measure the delivery of adapters to pods.")
    parser.add_argument("--adapters", type=int, help="LoRAAdapters; default: 200")
    parser.add_argument("--pods", type=int, help="inference pods; default: 50")
    parser.add_argument("--each", type=int, help="adapters that a pod asks for; default: 5")
    parser.add_argument("--quick", action="store_true", help="10 adapters in 4 pods instead")
    parser.add_argument("--record", action="store_true", help=f"append the table to {RESULTS.name}")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
