"""What a chaos run found, as a table for people and as a section of bench/RESULTS.md."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from chaos.kills import Aim
from chaos.story import Disturbed


@dataclass(frozen=True)
class Report:
    """The runs of one chaos, and how they came about."""

    seed: int
    seconds: float
    runs: Sequence[Disturbed]

    @property
    def faults(self) -> list[str]:
        """Everything that must never happen and did."""
        return [f"{run.name}: {fault}" for run in self.runs for fault in run.faults]

    def table(self) -> str:
        """Return a Markdown table with one line for each variant, and one of all."""
        variants = sorted({run.variant for run in self.runs})
        rows = [(name, [run for run in self.runs if run.variant == name]) for name in variants]
        rows.append(("all", list(self.runs)))
        head = "| runs | | kills | TERM | KILL | attempts that resumed | other digests | lies and other faults |"
        return "\n".join([head, "|---" * 8 + "|", *(_row(name, runs) for name, runs in rows)])

    def places(self) -> str:
        """Return where the kills hit, in one paragraph."""
        kills = [ending for run in self.runs for ending in run.endings if ending.kill]
        activities = Counter(str(ending.activity) for ending in kills)
        aims = Counter(ending.kill.aim for ending in kills if ending.kill)
        half = Counter(kind for run in self.runs for kind in run.half_written)
        return (
            f"Hit while {_counted(activities)}. Aimed: {aims[Aim.SAVING]} at the saving of a checkpoint, "
            f"{aims[Aim.PUBLISHING]} at the publication; {half['checkpoints']} left a half-written checkpoint and "
            f"{half['adapters']} a half-written adapter, which nothing has read."
        )

    def record(self, path: Path, day: date) -> None:
        """Append the report to the results."""
        title = f"## {day.isoformat()}, trainers that are killed"
        command = f"`make chaos`, seed {self.seed}, {self.seconds / 60:.0f} min. The digest of each run is that of the"
        story = f"{command}\nundisturbed run of its variant, or it counts as another one."
        with path.open("a", encoding="utf-8") as file:
            file.write(f"\n{title}\n\n{story}\n\n{self.table()}\n\n{self.places()}\n")


def _row(name: str, runs: list[Disturbed]) -> str:
    endings = [ending for run in runs for ending in run.endings]
    signals = Counter(ending.kill.signal.name for ending in endings if ending.kill)
    resumes = sum(ending.resumed_from is not None for ending in endings)
    digests = sum(run.digest_differs for run in runs)
    faults = sum(len(run.faults) for run in runs) - digests
    kills = sum(signals.values())
    numbers = [len(runs), kills, signals["SIGTERM"], signals["SIGKILL"], resumes, digests, faults]
    return f"| {name} | " + " | ".join(map(str, numbers)) + " |"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())
