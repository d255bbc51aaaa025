"""`make chaos`: kill trainers, start them again, and look whether anything was lost.

Exits with 1 when something that must never happen did.
"""

import argparse
import secrets
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from chaos.kills import plan_kills
from chaos.report import Report
from chaos.story import Disturbed, KillList, Undisturbed, run_disturbed, run_plain, run_undisturbed
from chaos.trainers import ForkServer
from chaos.world import VARIANTS, World, make_world
from support.s3server import open_s3_server

RESULTS = Path(__file__).resolve().parents[2] / "bench" / "RESULTS.md"
_AT_ONCE = 2


def main() -> int:
    """Run the chaos; return the exit code."""
    options = _options()
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="chaos-world-"))
    with ExitStack() as stack:
        server = stack.enter_context(open_s3_server(folder / "s3"))
        world = make_world(server, folder)
        forks = [stack.enter_context(closing(ForkServer(world.environment))) for _ in range(_AT_ONCE)]
        usual = {variant: _undisturbed(forks[0], world, variant) for variant in VARIANTS}
        runs = _disturb(forks, world, usual, KillList(plan_kills(options.seed, options.kills)))
    report = Report(options.seed, time.monotonic() - started, runs)
    return _conclude(report, record=options.record, logs=folder)


def say(text: str) -> None:
    """Print one line."""
    sys.stdout.write(f"chaos: {text}\n")
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how many kills in all (default: 100)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the plan (default: a new one)")
    parser.add_argument("--record", action="store_true", help="append the result to bench/RESULTS.md")
    return parser.parse_args()


def _undisturbed(fork: ForkServer, world: World, variant: str) -> Undisturbed:
    """Run a variant by the command line alone and by the fork server, which must not make a difference."""
    place = list(VARIANTS).index(variant)
    plain, run = run_plain(world, f"plain-{place}", variant), run_undisturbed(fork, world, f"usual-{place}", variant)
    if plain != run.digest:
        raise RuntimeError(f"{variant}: {plain} by the command line, and {run.digest} by the fork server")
    say(f"undisturbed, {variant}: {run.digest[:19]}, {run.durations.run:.1f} s")
    return run


def _disturb(forks: list[ForkServer], world: World, usual: dict[str, Undisturbed], kills: KillList) -> list[Disturbed]:
    """Begin new runs, one at a time on each fork server, until every kill has hit."""
    numbers, variants = count(1), list(usual)

    def work(fork: ForkServer) -> list[Disturbed]:
        runs: list[Disturbed] = []
        while len(kills) and not any(run.faults for run in runs):
            number = next(numbers)
            run = Disturbed(f"run-{number}", variants[number % len(variants)])
            runs.append(run_disturbed(fork, world, run, usual[run.variant], kills, say))
        return runs

    with ThreadPoolExecutor(len(forks)) as pool:
        return [run for runs in pool.map(work, forks) for run in runs]


def _conclude(report: Report, *, record: bool, logs: Path) -> int:
    say(f"seed {report.seed}, {report.seconds / 60:.1f} min\n\n{report.table()}\n\n{report.places()}\n")
    for fault in report.faults:
        say(f"FAULT {fault}")
    if report.faults:
        say(f"the logs are in {logs}")
        return 1
    if record:
        report.record(RESULTS, datetime.now(UTC).date())
    return 0


if __name__ == "__main__":
    sys.exit(main())
