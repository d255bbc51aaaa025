"""How the steps of a training are watched: one clock for every contender, and the numbers that it computes anyway."""

import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from bench.trainer.workload import Trace

_KIBIBYTE = 1024


class StepClock(TrainerCallback):
    """Writes the time of each step into a trace. A step begins where the one before has ended."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._last: float | None = None

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start with the first step."""
        if self._last is None:
            self._last = self._trace.started = now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Take the time."""
        ended = now()
        assert self._last is not None  # noqa: S101 - the step has begun
        self._trace.seconds.append(ended - self._last)
        self._last = ended


class Observed:
    """Mixed into a Trainer: notes what each step learned from, its loss and its gradient norm.

    They are read where the Trainer has them, so that no contender has to log more than it would.
    """

    trace: Trace
    _loss = 0.0
    _tokens = 0

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Train on a micro-batch."""
        self._tokens += real_tokens(inputs)
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        self._loss = self._loss + loss
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)  # type: ignore[misc]
        self.trace.norms.append(float(norm))
        self.trace.losses.append(float(self._loss))
        self.trace.tokens.append(self._tokens)
        self._loss, self._tokens = 0.0, 0
        return norm


def real_tokens(inputs: Any) -> int:
    """Return the tokens of a micro-batch without padding."""
    mask = inputs.get("attention_mask")
    return int(inputs["input_ids"].numel() if mask is None else mask.sum())


def now() -> float:
    """Return the time, when all that a GPU was asked for is done."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def take_peaks(trace: Trace) -> Trace:
    """Put the most memory that this process has held into its trace.

    VmHWM and not getrusage's ru_maxrss, which a new process inherits from the one that started it.
    """
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    trace.peak_memory = int(status["VmHWM"].split()[0]) * _KIBIBYTE
    if torch.cuda.is_available():
        trace.peak_device_memory = torch.cuda.max_memory_allocated()
    return trace
