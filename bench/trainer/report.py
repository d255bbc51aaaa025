"""Tables of results as Markdown, and the facts of the machine without which a number says nothing."""

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "trl", "datasets", "tokenizers", "lora-operator")
RESULTS = Path(__file__).resolve().parents[1] / "RESULTS.md"


@dataclass(frozen=True)
class Verdict:
    """A pass line, and whether it was met."""

    line: str
    found: str
    passed: bool


@dataclass(frozen=True)
class Section:
    """The results of one measurement."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    verdicts: Sequence[Verdict] = ()
    notes: Sequence[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Return heading, table, pass lines and notes."""
        lines = [f"### {self.title}", "", _row(self.header), _row(["---"] * len(self.header))]
        lines += [_row(row) for row in self.rows]
        lines += [""] if self.verdicts or self.notes else []
        lines += [f"- {each.line}: {each.found}, {'met' if each.passed else '**not met**'}" for each in self.verdicts]
        lines += [f"- {note}" for note in self.notes]
        return "\n".join(lines) + "\n"


def heading(title: str, command: str, today: date, threads: int, *, quick: bool) -> str:
    """Return the heading of a run with what it ran on."""
    libraries = ", ".join(f"{name} {found}" for name in _LIBRARIES if (found := _version(name)))
    warning = "**A quick run: it shows that everything works, its numbers mean nothing.**\n\n" if quick else ""
    return (
        f"## {today.isoformat()}, {title}\n\n{warning}"
        f"`{command}`: {cpu_model()}, {threads} threads, {_features()}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}; {libraries}. Load before the run: {os.getloadavg()[0]:.1f}.\n"
        "Where there are repeats, a number is the best and, after a slash, the median; contenders take turns.\n"
    )


def cpu_model() -> str:
    """Return what the kernel calls the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def best_and_median(values: Sequence[float], digits: int = 1, *, most: bool = False) -> str:
    """Return the best of the repeats and their median; the best is the least, or the most."""
    best = max(values) if most else min(values)
    return f"{best:,.{digits}f} / {median(values):,.{digits}f}" if len(values) > 1 else f"{best:,.{digits}f}"


def ratio(value: float, other: float) -> str:
    """Return how many times the other a value is."""
    return f"{value / other:.2f}x"


def usable_threads() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0))


def record(text: str) -> None:
    """Append the text of a run to the recorded results."""
    with RESULTS.open("a", encoding="utf-8") as results:
        results.write("\n" + text)


def say(text: str) -> None:
    """Tell whoever waits what is going on."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _features() -> str:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = [name for name in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if f" {name} " in flags]
    return f"{found[0]}" + ("" if "bf16" in found[0] else ", no bfloat16 in hardware") if found else "no AVX2"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
