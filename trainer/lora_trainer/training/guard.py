"""When a run is lost: NaN, infinity, explosion, or an adapter that learns nothing.

Pure; the trainer asks once a step, before the weights change, and after each evaluation. A lost run must never look
like a success.
"""

import math
from collections import deque
from typing import Any

from lora_trainer.errors import diverged, internal

_HINT = "lower spec.training.learningRate, or look for extreme rows in the data"
_EXPLOSION = 3.0
"""A step's loss this many times above both the first one and that of blind guessing will not come back."""
_RUIN_SHARE, _RUIN_NATS = 0.5, 1.0
"""An evaluation loss above the base's by both is that of a ruined model, if the training loss does not fall either.
If it does fall, the model memorizes, which is unwise and no divergence."""
_RECENT_STEPS = 10
_MAX_OVERFLOWS = 20
"""FP16 only: overflows in a row, each of which halves the loss scale; 20 take it from 65,536 to below 1."""


class LossGuard:
    """Watches the losses and gradients of one run.

    `guessing_loss` is the loss of blind guessing, in nats; `scales_loss` whether FP16 scaling may skip steps.
    """

    def __init__(self, guessing_loss: float, *, scales_loss: bool = False) -> None:
        self._guessing = guessing_loss
        self._scales_loss = scales_loss
        self._first: float | None = None
        self._base: float | None = None
        self._recent: deque[float] = deque(maxlen=_RECENT_STEPS)
        self._overflows = 0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the guard, as JSON values."""
        recent = list(self._recent)
        return {"first": self._first, "base": self._base, "recent": recent, "overflows": self._overflows}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the guard that a checkpoint was made of."""
        self._first, self._base, self._overflows = state["first"], state["base"], state["overflows"]
        self._recent = deque(state["recent"], maxlen=_RECENT_STEPS)

    def check_step(self, step: int, loss: float, gradient_norm: float) -> None:
        """Raise a `TrainerError`, 80 for a divergence and 70 for a gradient of zero, if the step ruins the run."""
        if not math.isfinite(loss):
            raise diverged(f"the loss of step {step} is {loss}", _HINT)
        self._first = loss if self._first is None else self._first
        if loss > _EXPLOSION * max(self._first, self._guessing):
            raise diverged(f"the loss of step {step} is {loss:.4g}, after {self._first:.4g} at first", _HINT)
        self._recent.append(loss)
        self._check_gradient(step, gradient_norm)

    def check_evaluation(self, step: int, loss: float) -> None:
        """Raise a `TrainerError` (80) if the model is ruined. The first evaluation is that of the base."""
        if not math.isfinite(loss):
            raise diverged(f"the evaluation loss after step {step} is {loss}", _HINT)
        if self._base is None:
            self._base = loss
            return
        recent = sum(self._recent) / max(1, len(self._recent))
        if loss > self._base + max(_RUIN_NATS, _RUIN_SHARE * self._base) and recent > self._base:
            raise diverged(
                f"after step {step} the evaluation loss is {loss:.4g} and the training loss {recent:.4g}; "
                f"the base model had {self._base:.4g}",
                _HINT,
            )

    def _check_gradient(self, step: int, norm: float) -> None:
        if not math.isfinite(norm):
            self._overflows += 1
            if not self._scales_loss or self._overflows > _MAX_OVERFLOWS:
                raise diverged(f"the gradient of step {step} is {norm}", _HINT)
            return
        self._overflows = 0
        if norm == 0.0:
            raise internal(
                f"the gradient of step {step} is exactly zero: the adapter takes no part in the model",
                "check spec.lora.targetModules",
            )
