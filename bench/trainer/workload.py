"""What a contender is asked to train, and what it answers.

Both are plain values that go through JSON: each training runs in a process of its own. Nothing here imports torch.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

Rows = list[dict[str, list[int]]]
"""Rows of `input_ids` and `labels` of one length; a label is the token itself, or -100 where it is not learned."""


@dataclass(frozen=True)
class Contender:
    """One way of training. `kind` is `ours`, `by hand`, `trainer` or `trl`."""

    name: str
    kind: str
    packed: bool = False
    recompute: bool = False
    """Whether activations are computed again in the backward pass."""
    rows_at_once: int | None = None
    """Rows of a micro-batch, where it is not that of the workload. Ours has its own plan."""
    logging_steps: int = 1


@dataclass(frozen=True)
class Workload:
    """A training: which model learns from which rows, and in what portions."""

    contender: Contender
    model: str
    """Folder of the base model and its tokenizer."""
    rows: str
    """File of `save_rows`."""
    steps: int
    rows_per_step: int
    rows_at_once: int
    max_length: int
    warm_up: int = 1
    """Steps that are trained and not timed."""
    dtype: str = "float32"
    device: str = "cpu"
    learning_rate: float = 1e-3
    rank: int = 16
    seed: int = 42

    @property
    def micro_batch(self) -> int:
        """Rows of a micro-batch."""
        return self.contender.rows_at_once or self.rows_at_once


@dataclass
class Trace:
    """What was seen of a training: one value a step in each list."""

    seconds: list[float] = field(default_factory=list)
    """From the end of the step before to the end of this one."""
    tokens: list[int] = field(default_factory=list)
    """Tokens without padding."""
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    """Gradient norms before they are clipped."""
    peak_memory: int = 0
    """Most bytes of main memory that the process held at once."""
    peak_device_memory: int = 0
    """Most bytes that torch had allocated on the GPU."""
    started: float = 0.0
    """When the first step began, on the clock of `time.perf_counter`."""
    packed: bool = False
    """Whether the rows were indeed laid end to end."""

    def check(self, name: str) -> None:
        """Raise `AssertionError` when this was no training: a gradient of zero, or a loss that does not fall."""
        dead = [step for step, norm in enumerate(self.norms, start=1) if not (math.isfinite(norm) and norm > 0)]
        if dead or len(self.norms) != len(self.losses) or not self.norms:
            raise AssertionError(f"{name}: no gradient in steps {dead} of {len(self.losses)}")
        part = max(1, len(self.losses) // 4)
        first, last = fmean(self.losses[:part]), fmean(self.losses[-part:])
        if not last < first:
            raise AssertionError(f"{name}: the loss does not fall, from {first:.4f} to {last:.4f}")

    def step_seconds(self, warm_up: int) -> list[float]:
        """Return the times of the steps that count."""
        return self.seconds[warm_up:]

    def tokens_per_second(self, warm_up: int) -> float:
        """Return the tokens without padding by the time of the steps that count."""
        return sum(self.tokens[warm_up:]) / sum(self.seconds[warm_up:])


def encode(value: Any) -> str:
    """Return a dataclass as JSON."""
    return json.dumps(asdict(value))


def decode_workload(values: dict[str, Any]) -> Workload:
    """Return the workload that `encode` wrote."""
    return Workload(**{**values, "contender": Contender(**values["contender"])})


def save_rows(path: Path, rows: Rows) -> str:
    """Write rows to a file, and return its path as a workload has it."""
    path.write_text(json.dumps(rows))
    return str(path)


def load_rows(path: str) -> Rows:
    """Return the rows of a file."""
    rows: Rows = json.loads(Path(path).read_text())
    return rows
