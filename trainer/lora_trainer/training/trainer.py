"""The training loop: transformers' Trainer, which owns optimizer, devices and wrapping, with a step of this project.

What differs from the parent, and why:
- An item of its data is the number of a whole optimizer step, which `training_step` divides into micro-batches. So
  running out of memory is mended within the step, and the data of a step follow from its number alone.
- The loss is a mean over all that the step learns from, on all ranks; an evaluation's over the whole set. The parent
  averages means, which changes with the batch size.
- NaN, infinity and explosion end the run before the weights change. The parent reports 0.0.
- After each step one method evaluates, saves and stops, in an order that a resumed training repeats exactly.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainingArguments

from lora_api.messages import Activity, Plan
from lora_api.training import Metric, Training
from lora_trainer.data.examples import Examples, Int64
from lora_trainer.errors import OutOfGpuMemoryError, internal
from lora_trainer.logs import warn
from lora_trainer.progress import ProgressState
from lora_trainer.ranks import Ranks
from lora_trainer.signals import InterruptionError, StopSignal
from lora_trainer.training.batches import RowOrder, micro_batches_of_ranks
from lora_trainer.training.collate import Collator
from lora_trainer.training.evaluation import EvaluationSet, add_up, collate_or_nothing
from lora_trainer.training.guard import LossGuard
from lora_trainer.training.losses import Loss
from lora_trainer.training.metrics import metrics_of
from lora_trainer.training.plan import evaluation_interval, halved, warmup_steps
from lora_trainer.training.recorder import Recorder
from lora_trainer.training.saving import Saving
from lora_trainer.training.schedule import rate_share
from lora_trainer.training.stopping import should_stop


@dataclass(frozen=True)
class Run:
    """What is trained on, how it is laid out, and what it is measured by."""

    train: Examples
    counts: Int64
    """What each example adds to the count that the loss is a mean over."""
    validation: Examples | None
    retention: Examples | None
    """A general set, measured before and after."""
    collator: Collator
    loss: Loss
    metrics: tuple[Metric, ...]
    plan: Plan
    settings: Training

    @property
    def budget(self) -> int:
        """Tokens of a micro-batch: so many rows of the longest kind."""
        return self.plan.micro_batch_size * int(self.train.lengths.max())


class LoraTrainer(Trainer):
    """Trains an adapter on examples. See the module for what it does otherwise than its parent."""

    def __init__(
        self,
        model: torch.nn.Module,
        arguments: TrainingArguments,
        run: Run,
        guard: LossGuard,
        *,
        ranks: Ranks,
        recorder: Recorder,
        progress: ProgressState,
        stop: StopSignal,
        saving: Saving,
    ) -> None:
        super().__init__(model=model, args=arguments, train_dataset=range(arguments.max_steps))  # type: ignore[arg-type]
        self.remove_callback(PrinterCallback)
        self.job, self._guard, self.ranks = run, guard, ranks
        self.recorder, self.progress, self._stop, self._saving = recorder, progress, stop, saving
        self._order = RowOrder(len(run.train), run.settings.effective_batch_size, run.settings.seed)
        self._evaluation_interval = evaluation_interval(run.plan.total_steps)
        self._first_step = saving.start_step
        self._recorded_step = saving.start_step
        self._step_loss, self._step_tokens, self._step_started = 0.0, 0, time.monotonic()
        self._trained: list[torch.nn.Parameter] = []
        self._before_first_step: list[torch.Tensor] = []

    def run(self) -> None:
        """Train to the end, and leave the best model in place.

        Raises `InterruptionError` after a signal, with a checkpoint saved, and 80 when the run diverges.
        """
        self.progress.enter(Activity.TRAINING)
        with self._stop.deferred():
            self.train()
            best = self.recorder.best_step
            if best is not None and best != self.state.global_step:
                self._saving.load_best(self.model)
            if self.job.retention is not None:
                self._measure_retention(self.model_wrapped)

    @property
    def published_step(self) -> int:
        """Step of the model that `run` left in place: the best evaluated one, or the last."""
        best = self.recorder.best_step
        return self.state.global_step if best is None else best

    @property
    def plan(self) -> Plan:
        """The plan as it is now: with a smaller micro-batch after a device ran out of memory."""
        return self.job.plan

    # What the parent asks for, before the first step.

    def get_train_dataloader(self) -> DataLoader[int]:
        """Return the numbers of the steps to come. Its own generator leaves that of the training untouched."""
        steps = range(self._first_step, self.args.max_steps)
        return DataLoader(steps, batch_size=None, generator=torch.Generator())  # type: ignore[arg-type]

    def set_initial_training_values(self, args: TrainingArguments, dataloader: Any) -> Any:
        """Return one epoch of all the steps to come; epochs of the data are the business of `RowOrder`."""
        steps = len(dataloader)
        return 1, steps, steps, steps, 1, steps, args.max_steps

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Return the schedule of the learning rate that the job asks for, beginning at the next step."""
        settings = self.job.settings
        warmup = warmup_steps(settings, num_training_steps)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer or self.optimizer,
            lambda step: rate_share(settings.scheduler, step + self._first_step, warmup, num_training_steps),
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def _prepare_for_training(self, *arguments: Any, **options: Any) -> Any:
        """Wrap model and optimizer, then bring back what the checkpoint holds."""
        prepared = super()._prepare_for_training(*arguments, **options)
        self.state.global_step = self._first_step
        self._saving.restore(self.model, self.optimizer, self.accelerator.scaler, self._guard)
        self._trained = [each for each in self.model.parameters() if each.requires_grad]
        self._before_first_step = [each.detach().clone() for each in self._trained]
        # The parent calls it after each step; its own walks through all of a large base, where nothing has gradients.
        prepared[0].zero_grad = self._drop_gradients
        return prepared

    def _drop_gradients(self, *_: bool) -> None:
        for each in self._trained:
            each.grad = None

    def _run_epoch(self, **options: Any) -> None:
        """Train, after what should have followed the last step of an attempt that ended early: an evaluation."""
        if self.job.retention is not None and self._first_step == 0:
            self._measure_retention(options["model"])
        self._after_step(options["model"])
        if not self.control.should_training_stop:
            super()._run_epoch(**options)

    # One step.

    def get_batch_samples(self, epoch_iterator: Iterator[int], num_batches: int, device: torch.device) -> Any:
        """Return the number of the next step."""
        self._step_started = time.monotonic()
        return [next(epoch_iterator)], None

    def training_step(self, model: torch.nn.Module, inputs: int, num_items_in_batch: Any = None) -> torch.Tensor:
        """Compute the gradients of step `inputs`. Out of memory, it is done again with smaller micro-batches."""
        if not model.training:
            model.train()
        dropout = _dropout_random()
        while True:
            try:
                return self._accumulate(model, inputs)
            except torch.OutOfMemoryError:
                smaller = halved(self.job.plan)
                if smaller is None or self.ranks.size > 1:  # other ranks wait in the midst of the step
                    raise OutOfGpuMemoryError(can_shrink=smaller is not None) from None
            # Not within `except`: there the traceback still holds what the failed attempt has allocated.
            self._start_again(model, smaller, inputs)
            _restore_dropout_random(dropout)

    def _accumulate(self, model: torch.nn.Module, step: int) -> torch.Tensor:
        """Add up the gradients of a step, and return this rank's share of the loss."""
        run, rows = self.job, self._order.of_step(step)
        # Ranks average their gradients; times their number that is the sum.
        scale = self.ranks.size / int(run.counts[rows].sum())
        batches = micro_batches_of_ranks(rows, run.train.lengths, run.budget, self.ranks.size, packed=run.plan.packing)[
            self.ranks.rank
        ]
        total = torch.zeros((), device=self.args.device)
        for place, each in enumerate(batches, start=1):
            self.progress.beat()
            batch = collate_or_nothing(run.collator, run.train, each).to(self.args.device)
            last = place == len(batches)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                with self.compute_loss_context_manager():
                    loss = run.loss(model, batch).loss * scale
                self._backward(loss)
            total += loss.detach()
        self._step_tokens = int(run.train.lengths[rows].sum())
        return total

    def _backward(self, loss: torch.Tensor) -> None:
        """Do what accelerate does without its look at libraries that are not here, half a millisecond each time."""
        scaler = self.accelerator.scaler
        (loss if scaler is None else scaler.scale(loss)).backward()

    def _start_again(self, model: torch.nn.Module, plan: Plan, step: int) -> None:
        self._drop_gradients()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.job = replace(self.job, plan=plan)
        self.progress.update(micro_batch_size=plan.micro_batch_size, accumulation_steps=plan.accumulation_steps)
        warn("out of memory; the step is done again with smaller micro-batches", step=step + 1, **plan.wire())

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:
        """Clip, and guard: this runs once a step, after the gradients and before the weights change."""
        norm = self.accelerator.clip_grad_norm_(self._trained, self.args.max_grad_norm)
        if isinstance(norm, DTensor):  # each rank knows the norm of its part
            norm = norm.full_tensor()
        (loss,) = self.ranks.add([self._tr_loss])
        self._step_loss = float(loss) / self.ranks.size
        self._tr_loss.zero_()
        self._guard.check_step(self.state.global_step + 1, self._step_loss, float(norm))
        return norm

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: the parent's count is wrong for adapters, and takes milliseconds a micro-batch."""
        return 0

    # After a step.

    def _maybe_log_save_evaluate(
        self, tr_loss: Any, grad_norm: Any, model: torch.nn.Module, *_: Any, learning_rate: float | None = None
    ) -> None:
        step = self.state.global_step
        if step == self._recorded_step:  # the parent asks once more at the end of its epoch
            return
        self._recorded_step = step
        self._check_movement(step)
        values = {"loss": self._step_loss, "gradNorm": float(grad_norm), "learningRate": float(learning_rate or 0.0)}
        seconds, epoch = time.monotonic() - self._step_started, self._order.epochs_after(step)
        self.recorder.step(step, epoch, seconds, self._step_tokens, values)
        self._after_step(model)

    def _check_movement(self, step: int) -> None:
        """Look once, after the first step of this attempt, whether the adapter has moved."""
        before, self._before_first_step = self._before_first_step, []
        if not before or self.accelerator.optimizer_step_was_skipped:  # FP16: the loss scale was too high
            return
        pairs = zip(before, self._trained, strict=True)
        moved = any(not torch.equal(_local(old), _local(new)) for old, new in pairs)
        if not self.ranks.any(moved)[0]:
            raise internal(f"step {step} did not change the adapter", "raise spec.training.learningRate")

    def _after_step(self, model: torch.nn.Module) -> None:
        """Evaluate, save and stop, where it is time to. Whatever is left out is made up for by the next attempt."""
        step = self.state.global_step
        stop, save = self.ranks.any(self._stop.requested, self._saving.due(step))
        try:
            if not stop and self._evaluation_is_due(step):
                self._evaluate_step(model, step)
        except InterruptionError:
            stop = True
        if stop or save:
            self._saving.save(step, self.model, self.optimizer, self.accelerator.scaler, self._guard, self.job.plan)
        if stop:
            raise self._interruption()
        if should_stop(self.recorder.evaluations, self.job.settings.early_stopping):
            self.control.should_training_stop = True

    def _evaluation_is_due(self, step: int) -> bool:
        on_time = step % self._evaluation_interval == 0 or step == self.state.max_steps
        return self.job.validation is not None and on_time and not self.recorder.evaluated_at(step)

    def _evaluate_step(self, model: torch.nn.Module, step: int) -> None:
        metrics, count = self.measure(model, self.job.validation)
        self.recorder.evaluation(step, metrics, count)
        self._guard.check_evaluation(step, metrics[Metric.EVAL_LOSS.value])
        if self.recorder.best_step == step:
            self._saving.keep_best(self.model)

    def _measure_retention(self, model: torch.nn.Module) -> None:
        metrics, count = self.measure(model, self.job.retention)
        self.recorder.retention(self.state.global_step, metrics[Metric.EVAL_LOSS.value], count)

    def measure(self, model: torch.nn.Module, examples: Examples | None) -> tuple[dict[str, float], int]:
        """Return the metrics of the model on a set, and what the loss is a mean over.

        Raises `InterruptionError` on all ranks when one of them was told to stop.
        """
        assert examples is not None  # noqa: S101 - the callers have looked
        run = self.job
        self.progress.enter(Activity.EVALUATING)
        model.eval()
        batches = EvaluationSet(examples, run.collator, run.budget, self.ranks, packed=run.plan.packing)
        with self.compute_loss_context_manager():
            totals = add_up(model, batches.batches(), run.loss, self.ranks, self._go_on)
        self.progress.enter(Activity.TRAINING)
        return metrics_of(totals.loss, totals.count, totals.sums, run.metrics), totals.count

    def _go_on(self) -> None:
        self.progress.beat()
        (stop,) = self.ranks.any(self._stop.requested)
        if stop:
            raise self._interruption()

    def _interruption(self) -> InterruptionError:
        return self._saving.interruption(self._stop.name or "another rank", self.state.global_step)


def _local(value: torch.Tensor) -> torch.Tensor:
    """Return the part of a sharded tensor that this rank holds."""
    return value.to_local() if isinstance(value, DTensor) else value


def _dropout_random() -> list[torch.Tensor]:
    """Return the states of the generators that dropout draws from, which costs less than those of all."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else states


def _restore_dropout_random(states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1])
