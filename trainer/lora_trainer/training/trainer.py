"""The training loop: transformers' Trainer with the losses, the guards and the measurements of this project.

What differs from the parent, and why:
- Both losses are a mean over supervised tokens: of the whole batch that a step learns from, and of the whole
  validation set. The parent's evaluation averages batch means, so it changes with the batch size.
- NaN, infinity and explosion end the run within the step, before the weights change. The parent reports 0.0.
- A gradient of exactly zero ends the run: the adapter is not part of the computation.
- Logits are computed only where something is learned.
- A signal stops the run at the end of a step.
"""

import inspect
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from lora_api.messages import Activity
from lora_api.training import Scheduler
from lora_trainer.data.prepare import Example
from lora_trainer.progress import ProgressState
from lora_trainer.signals import InterruptionError, StopSignal
from lora_trainer.training.guard import LossGuard
from lora_trainer.training.recorder import Recorder
from lora_trainer.training.schedule import rate_share

IGNORED = -100
"""Label of a token that is not learned."""

Batch = dict[str, torch.Tensor]


class Collator:
    """Pads examples at the right to the longest of the batch.

    Returns `input_ids`, `attention_mask`, `labels`, all [rows, length], and `positions` [n]: where, in any row, the
    next token is learned. They are found here, on the CPU, as finding them on a GPU would make it wait.
    """

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, examples: list[Example]) -> Batch:
        """Return one batch."""
        shape = (len(examples), max(len(example) for example in examples))
        ids, labels = torch.full(shape, self._pad_id), torch.full(shape, IGNORED)
        mask = torch.zeros(shape, dtype=torch.long)
        for row, example in enumerate(examples):
            tokens = torch.tensor(example.ids, dtype=torch.long)
            learned = torch.tensor(example.learned, dtype=torch.bool)
            ids[row, : len(example)] = tokens
            mask[row, : len(example)] = 1
            labels[row, : len(example)] = torch.where(learned, tokens, IGNORED)
        positions = (labels[:, 1:] != IGNORED).any(dim=0).nonzero().squeeze(1)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels, "positions": positions}


class LoraTrainer(Trainer):
    """Trains an adapter on examples. See the module for what it does otherwise than its parent."""

    def __init__(
        self,
        model: torch.nn.Module,
        arguments: TrainingArguments,
        train: list[Example],
        validation: list[Example],
        collator: Collator,
        *,
        scheduler: Scheduler,
        warmup: int,
        recorder: Recorder,
        progress: ProgressState,
        stop: StopSignal,
    ) -> None:
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=train,  # type: ignore[arg-type]
            eval_dataset=validation or None,  # type: ignore[arg-type]
            data_collator=collator,
            callbacks=[_StopAtStep(stop)],
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = True  # compute_loss divides by the supervised tokens of the whole step
        self._scheduler, self._warmup = scheduler, warmup
        self._recorder, self._progress, self._stop = recorder, progress, stop
        self._selects_logits = "logits_to_keep" in inspect.signature(_base_of(model).forward).parameters
        self._step_loss = torch.zeros(())
        self._step_tokens: torch.Tensor | int = 0
        self._step_started = time.monotonic()
        vocabulary = _base_of(model).config.get_text_config().vocab_size
        self._guard = LossGuard(vocabulary, scales_loss=self.accelerator.scaler is not None)

    def run(self) -> None:
        """Train to the end and evaluate there. Raises `InterruptionError` after a signal, 80 when it diverges."""
        self._progress.enter(Activity.TRAINING)
        with self._stop.deferred():
            self.train()
            if self._stop.requested:
                done, total = self.state.global_step, self.state.max_steps
                raise InterruptionError(f"stopped by {self._stop.name} after step {done} of {total}")
            if self.eval_dataset is not None and not self._recorder.evaluated_at(self.state.global_step):
                self.evaluate()

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Return the schedule of the learning rate that the job asks for."""
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer or self.optimizer,
            lambda step: rate_share(self._scheduler, step, self._warmup, num_training_steps),
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the sum of token losses of a micro-batch over the supervised tokens of the whole step."""
        total, tokens = self.summed_loss(model, inputs)
        return total / (tokens if num_items_in_batch is None else num_items_in_batch)

    def summed_loss(self, model: torch.nn.Module, inputs: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum of the token losses of a batch, float32, and the number of supervised tokens."""
        positions = inputs["positions"]
        targets = inputs["labels"][:, 1:][:, positions]
        forward = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"], "use_cache": False}
        if self._selects_logits:
            logits = model(**forward, logits_to_keep=positions).logits
        else:
            logits = model(**forward).logits[:, positions]
        losses = functional.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        return losses, (targets != IGNORED).sum()

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], torch.Tensor | int | None]:
        """Return the micro-batches of a step, and the number of supervised tokens in all of them."""
        self._step_started = time.monotonic()
        batches, tokens = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._step_loss = torch.zeros((), device=device)
        self._step_tokens = sum((batch["attention_mask"].sum() for batch in batches), start=0)
        return batches, tokens

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> torch.Tensor | int | None:
        counts = [(batch["labels"][:, 1:] != IGNORED).sum() for batch in batch_samples]
        return torch.stack(counts).sum().to(device) if counts else None

    def training_step(self, model: torch.nn.Module, inputs: Batch, num_items_in_batch: Any = None) -> torch.Tensor:
        """Compute the gradients of a micro-batch, and keep its loss for the guard of the step."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._step_loss += loss
        return loss

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:
        """Clip, and guard: this runs once a step, after the gradients and before the weights change."""
        norm = super()._clip_grad_norm(model)
        self._guard.check_step(self.state.global_step + 1, float(self._step_loss), float(norm))
        return norm

    def evaluation_loop(self, dataloader: Any, description: str, *_: Any, **options: Any) -> EvalLoopOutput:
        """Return the mean loss over all supervised tokens of the set: the same for every batch size."""
        self._progress.enter(Activity.EVALUATING)
        model = self.model
        model.eval()
        total, tokens = 0.0, 0
        for batch in dataloader:
            if self._stop.requested:
                raise InterruptionError(f"stopped by {self._stop.name} after step {self.state.global_step}")
            with torch.no_grad(), self.compute_loss_context_manager():
                loss, count = self.summed_loss(model, self._prepare_inputs(batch))
            total, tokens = total + float(loss), tokens + int(count)
        mean = total / tokens
        self._recorder.evaluation(self.state.global_step, mean, tokens)
        self._guard.check_evaluation(self.state.global_step, mean)
        self._progress.enter(Activity.TRAINING)
        return EvalLoopOutput(None, None, {"eval_loss": mean}, len(dataloader.dataset))  # type: ignore[arg-type]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Record the values of a step; evaluations record themselves."""
        if "loss" in logs:
            values = {"loss": logs["loss"], "gradNorm": logs["grad_norm"], "learningRate": logs["learning_rate"]}
            seconds, tokens = time.monotonic() - self._step_started, int(self._step_tokens)
            self._recorder.step(self.state.global_step, self.state.epoch or 0.0, seconds, tokens, values)
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: Batch) -> int:
        """Return 0: the parent's count is wrong for adapters, and takes milliseconds a micro-batch."""
        return 0


class _StopAtStep(TrainerCallback):
    """Ends the training after the step in which a signal came."""

    def __init__(self, stop: StopSignal) -> None:
        self._stop = stop

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Ask the loop to stop, without a last evaluation."""
        if self._stop.requested:
            control.should_training_stop = True
            control.should_evaluate = False
        return control


def _base_of(model: Any) -> Any:
    """Return the model of transformers under an adapter."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
