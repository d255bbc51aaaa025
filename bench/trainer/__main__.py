"""`make bench`: every measurement, or some of them, and a table of each.

A pass line that is missed is told and is no error; a contender that fails, or does not learn, is one.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.trainer import curves, overhead, preparation, report, stalls, throughput
from bench.trainer.report import say
from bench.trainer.settings import Measurement, Settings

_MEASUREMENTS: Mapping[str, tuple[str, Measurement]] = {
    "a": ("step overhead on a toy", overhead.measure),
    "b": ("throughput on SmolLM2-135M in bfloat16, and (d) peak memory", throughput.measure_bfloat16),
    "g": ("the same in float32", throughput.measure_float32),
    "c": ("data preparation, and the cache", preparation.measure),
    "e": ("loss curves", curves.measure),
    "f": ("waiting for checkpoints", stalls.measure),
}
_SAME = {"d": "b"}
"""Measured together."""


def main(arguments: Sequence[str]) -> int:
    """Run the measurements; return the exit code."""
    options = _parse(arguments)
    started = datetime.now(UTC)
    command = " ".join(["make bench", *([f'BENCH="{" ".join(arguments)}"'] if arguments else [])])
    texts = [
        report.heading(
            "the trainer beside Trainer and TRL", command, started.date(), options.threads, quick=options.quick
        )
    ]
    failed = False
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        settings = Settings(
            options.quick, options.threads, options.repeats or (1 if options.quick else 3), Path(scratch)
        )
        for letter in options.only:
            title, measure = _MEASUREMENTS[letter]
            say(f"({letter}) {title}")
            try:
                found = [section.markdown() for section in measure(settings)]
                print("\n".join(found), flush=True)  # a run that is cut short keeps what it has
                texts += found
            except (RuntimeError, AssertionError) as error:
                failed = True
                texts.append(f"### {title}\n\nFailed: {str(error).splitlines()[0]}\n")
                say(f"({letter}) failed: {error}")
    minutes = (datetime.now(UTC) - started).total_seconds() / 60
    text = "\n".join([*texts, f"The run took {minutes:.0f} minutes.\n"])
    if options.record and not failed:
        report.record(text)
    return int(failed)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    known = "; ".join(f"{letter} {title}" for letter, (title, _) in _MEASUREMENTS.items())
    parser = argparse.ArgumentParser(prog="bench.trainer", description=f"Measure the trainer: {known}.")
    parser.add_argument("--only", type=_letters, default=list(_MEASUREMENTS), help="such as a,c; default: all")
    parser.add_argument("--quick", action="store_true", help="tiny models and few steps, to see that all works")
    parser.add_argument("--record", action="store_true", help=f"append the tables to {report.RESULTS.name}")
    parser.add_argument("--repeats", type=int, help="runs of each contender; default: 3, of a quick run 1")
    parser.add_argument(
        "--threads", type=int, default=report.usable_threads(), help="threads of each contender; default: all"
    )
    return parser.parse_args(arguments)


def _letters(text: str) -> list[str]:
    letters = [_SAME.get(each.strip(), each.strip()) for each in text.split(",")]
    unknown = sorted(set(letters) - _MEASUREMENTS.keys())
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join([*_MEASUREMENTS, *_SAME])}")
    return list(dict.fromkeys(letters))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
