"""What the loop asks of checkpoints: when to save, what to bring back, which weights were best.

Between the loop, which knows steps, and `checkpoint`, which knows files and the store. All ranks call each method at
the same step; the first one writes.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed

from lora_api.messages import Plan
from lora_trainer.checkpoint.state import (
    RandomState,
    TrainingState,
    adapter_state,
    capture_random,
    load_adapter,
    load_optimizer_state,
    optimizer_state,
    restore_random,
)
from lora_trainer.checkpoint.uploader import BackgroundUploader
from lora_trainer.model.adapter import initial_state
from lora_trainer.ranks import Ranks
from lora_trainer.signals import InterruptionError
from lora_trainer.training.guard import LossGuard
from lora_trainer.training.recorder import Recorder

_LONGEST_SECONDS = 600.0
"""Longest time between checkpoints when the job does not say."""
_SHARE_OF_RUN = 10
_DRAIN_SECONDS = 100.0
"""Time for the last upload; the operator gives a pod 120 s to end."""


class Saving:
    """The checkpoints of one attempt."""

    def __init__(
        self,
        uploader: BackgroundUploader | None,
        found: TrainingState | None,
        recorder: Recorder,
        ranks: Ranks,
        *,
        total_steps: int,
        every: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._uploader, self._found, self._recorder, self._ranks = uploader, found, recorder, ranks
        self._total_steps, self._clock = total_steps, clock
        self._every = every or max(1, -(-total_steps // _SHARE_OF_RUN))
        self._longest_seconds = float("inf") if every else _LONGEST_SECONDS
        self.start_step = found.step if found else 0
        """Steps that are done before this attempt."""
        self._saved_step, self._saved_time = self.start_step, clock()
        self._best = found.best_adapter if found else None

    def restore(self, model: Any, optimizer: Any, scaler: Any, guard: LossGuard) -> None:
        """Bring everything back to where the checkpoint was made; without one, do nothing."""
        found, self._found = self._found, None
        if found is None:
            return
        load_adapter(_named(model), found.adapter)
        load_optimizer_state(_raw(optimizer), _named(model), found.optimizer)
        if scaler is not None and found.scaler:
            scaler.load_state_dict(found.scaler)
        guard.restore(found.guard)
        self._recorder.restore(found.history)
        if self._ranks.rank in found.random:  # it is not when there are more ranks now
            restore_random(found.random[self._ranks.rank])

    def due(self, step: int) -> bool:
        """Whether it is time for a checkpoint after a step. Ranks have clocks of their own; they must agree on it."""
        if step == self._saved_step:
            return False
        late = self._clock() - self._saved_time > self._longest_seconds
        return step % self._every == 0 or step == self._total_steps or late

    def save(self, step: int, model: Any, optimizer: Any, scaler: Any, guard: LossGuard, plan: Plan) -> None:
        """Take a checkpoint of the training after a step, to be uploaded in the background."""
        if step == self._saved_step:
            return
        state = TrainingState(
            step=step,
            adapter=adapter_state(_named(model)),
            optimizer=optimizer_state(_raw(optimizer), _named(model)),
            random=self._random_of_all_ranks(),
            position=plan.wire(),
            history=list(self._recorder.history),
            scaler=scaler.state_dict() if scaler is not None else None,
            guard=guard.state(),
            best_adapter=self._best,
            initial=initial_state(model) or None,
        )
        self._saved_step, self._saved_time = step, self._clock()
        if self._uploader is not None:
            self._uploader.save(state)

    def keep_best(self, model: Any) -> None:
        """Keep the weights as those of the best evaluation so far."""
        self._best = {name: value.to("cpu", copy=True) for name, value in adapter_state(_named(model)).items()}

    def load_best(self, model: Any) -> None:
        """Put the weights of the best evaluation into the model."""
        assert self._best is not None  # noqa: S101 - the evaluation that was best has kept them
        load_adapter(_named(model), self._best)

    def interruption(self, by: str, step: int) -> InterruptionError:
        """Wait for the upload, and return the error that ends this attempt and says where the next one goes on."""
        if self._uploader is not None:
            self._uploader.drain(_DRAIN_SECONDS)
        self._ranks.any(False)  # none ends before the first has uploaded: the launcher would end it too
        saved = self._uploader.last.step if self._uploader and self._uploader.last else None
        message = f"stopped by {by} after step {step} of {self._total_steps}"
        failure = self._uploader.failure if self._uploader else None
        return InterruptionError(
            f"{message}; a checkpoint was not saved: {failure.message}" if failure else message, saved
        )

    def _random_of_all_ranks(self) -> dict[int, RandomState]:
        mine = capture_random()
        if self._ranks.size == 1:
            return {0: mine}
        everyone: list[Any] = [None] * self._ranks.size
        distributed.all_gather_object(everyone, mine)
        return dict(enumerate(everyone))


def _named(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    """Return the parameters by names that do not change with how the model is wrapped."""
    return [(name.replace("_fsdp_wrapped_module.", ""), value) for name, value in model.named_parameters()]


def _raw(optimizer: Any) -> torch.optim.Optimizer:
    """Return the optimizer under accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)
