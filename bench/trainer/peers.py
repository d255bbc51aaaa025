"""The others: a loop by hand, plain transformers.Trainer with PEFT, and TRL's SFTTrainer, each as its manual has it.

All start from the same weights and adapter and get the same rows in the same order as ours.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, PrinterCallback, Trainer, TrainingArguments, set_seed

from bench.trainer.models import tokenizer_of
from bench.trainer.observe import Observed, StepClock, now, real_tokens
from bench.trainer.workload import Rows, Trace, Workload, load_rows
from lora_trainer.training.batches import RowOrder

_BETA2 = 0.999


def train_by_hand(workload: Workload) -> Trace:
    """Train with a loop of a dozen lines, on rows of equal length: what any trainer adds to."""
    model, trace = adapted_model(workload), Trace()
    weights = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=workload.learning_rate, betas=(0.9, _BETA2), weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    model.train()
    last = now()
    for batch in _batches(workload):
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        trace.losses.append(float(loss.detach()))
        trace.norms.append(float(norm))
        trace.tokens.append(real_tokens(batch))
        ended = now()
        trace.seconds.append(ended - last)
        last = ended
    return trace


def train_with_trainer(workload: Workload) -> Trace:
    """Train with transformers' Trainer on a model that PEFT has adapted."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            **_arguments(workload, folder),
            max_steps=workload.steps,
            activation_checkpointing=workload.contender.recompute,
        )
        rows = ordered_rows(workload)
        trainer = _ObservedTrainer(
            model=adapted_model(workload),
            args=arguments,
            train_dataset=rows,
            data_collator=_collator(workload, rows),
        )
        return _run(trainer)


def train_with_trl(workload: Workload) -> Trace:
    """Train with TRL on the same tokens and labels, padded or packed."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    class ObservedSFTTrainer(Observed, SFTTrainer):  # type: ignore[misc]
        """SFTTrainer, watched."""

    rows = ordered_rows(workload)
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            **_arguments(workload, folder) | _portions(workload, rows),
            gradient_checkpointing=workload.contender.recompute,
            max_length=workload.max_length,
            packing=workload.contender.packed,
            packing_strategy="bfd",
        )
        trainer = ObservedSFTTrainer(
            model=adapted_model(workload),
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer_of(Path(workload.model)),
        )
        trace = _run(trainer)
    trace.packed = workload.contender.packed
    return trace


def adapted_model(workload: Workload) -> Any:
    """Return the base with the adapter that ours begins with too: the same seed, the same layers."""
    base = AutoModelForCausalLM.from_pretrained(
        workload.model, dtype=getattr(torch, workload.dtype), attn_implementation="sdpa", local_files_only=True
    ).to(workload.device)
    base.config.use_cache = False
    torch.manual_seed(workload.seed)
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=workload.rank, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear"
    )
    return get_peft_model(base, lora)


def ordered_rows(workload: Workload) -> Rows:
    """Return the rows of all steps in the order in which ours takes them."""
    rows = load_rows(workload.rows)
    order = RowOrder(len(rows), workload.rows_per_step, workload.seed)
    return [rows[index] for step in range(workload.steps) for index in order.of_step(step)]


class _ObservedTrainer(Observed, Trainer):  # type: ignore[misc]
    """Trainer, watched."""


def _run(trainer: Any) -> Trace:
    trace = trainer.trace = Trace()
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(StepClock(trace))
    set_seed(trainer.args.seed)
    trainer.train()
    return trace


def _arguments(workload: Workload, folder: str) -> dict[str, Any]:
    """Return what Trainer and SFTTrainer have in common. What neither needs for training is off."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": workload.micro_batch,
        "gradient_accumulation_steps": workload.rows_per_step // workload.micro_batch,
        "learning_rate": workload.learning_rate,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch_fused",
        "adam_beta2": _BETA2,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "bf16": workload.dtype == "bfloat16",
        "seed": workload.seed,
        "train_sampling_strategy": "sequential",
        "logging_steps": workload.contender.logging_steps,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": workload.device == "cpu",
    }


def _portions(workload: Workload, rows: Rows) -> dict[str, Any]:
    """Return how many rows TRL takes a step.

    Packed, its rows are whole sequences of several of ours: one at a time, and as many a step as hold the same tokens.
    """
    if not workload.contender.packed:
        return {"max_steps": workload.steps}
    tokens = sum(len(row["input_ids"]) for row in rows) / workload.steps
    at_once = max(1, round(workload.micro_batch * tokens / workload.rows_per_step / workload.max_length))
    return {
        "num_train_epochs": 1,
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": max(1, round(tokens / workload.max_length / at_once)),
    }


def _collator(workload: Workload, rows: Rows) -> Any:
    from transformers import DataCollatorForSeq2Seq, default_data_collator

    if len({len(row["input_ids"]) for row in rows}) == 1:
        return default_data_collator
    return DataCollatorForSeq2Seq(tokenizer_of(Path(workload.model)), padding=True)


def _batches(workload: Workload) -> list[dict[str, torch.Tensor]]:
    rows = ordered_rows(workload)
    size = workload.rows_per_step
    return [
        {name: torch.tensor([row[name] for row in rows[start : start + size]]) for name in ("input_ids", "labels")}
        for start in range(0, len(rows), size)
    ]
