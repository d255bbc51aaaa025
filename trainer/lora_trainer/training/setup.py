"""Puts a trainer together: batches, loss, guard, checkpoints and the arguments of transformers' Trainer.

Nothing is decided here that is not written in the plan or the job.
"""

import math
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from lora_api.lorajob import LoRAJobSpec
from lora_api.messages import Plan
from lora_api.training import Objective
from lora_trainer.checkpoint.state import TrainingState
from lora_trainer.checkpoint.uploader import BackgroundUploader
from lora_trainer.context import Context
from lora_trainer.logs import log
from lora_trainer.ranks import Ranks
from lora_trainer.resolve import Resolution
from lora_trainer.tasks import TaskRules, rules_of
from lora_trainer.training.collate import Collator
from lora_trainer.training.guard import LossGuard
from lora_trainer.training.losses import counts_of, loss_of
from lora_trainer.training.recorder import Recorder
from lora_trainer.training.saving import Saving
from lora_trainer.training.trainer import LoraTrainer, Run


def make_trainer(
    context: Context,
    resolution: Resolution,
    plan: Plan,
    model: Any,
    *,
    found: TrainingState | None,
    uploader: BackgroundUploader | None,
    ranks: Ranks,
    device: torch.device,
) -> LoraTrainer:
    """Return the trainer of a job, which goes on from `found` if there is a checkpoint."""
    spec = context.job.spec
    recorder = Recorder(context.workspace.metrics, context.progress, plan.total_steps)
    checkpoint = spec.training.checkpoint
    saving = Saving(
        uploader,
        found,
        recorder,
        ranks,
        total_steps=plan.total_steps,
        every=checkpoint.every if checkpoint else None,
    )
    arguments = training_arguments(spec, plan, context.workspace.run_folder("trainer"), model, device, ranks)
    log("training starts", device=device.type, processes=ranks.size, threads=torch.get_num_threads(), **plan.wire())
    set_seed(spec.training.seed + ranks.rank)
    return LoraTrainer(
        model,
        arguments,
        make_run(spec, resolution, plan, model),
        LossGuard(guessing_loss(spec, resolution, model), scales_loss=arguments.fp16),
        ranks=ranks,
        recorder=recorder,
        progress=context.progress,
        stop=context.stop,
        saving=saving,
    )


def make_run(spec: LoRAJobSpec, resolution: Resolution, plan: Plan, model: Any) -> Run:
    """Return what is trained on and how it is measured."""
    rules = rules_of(spec)
    asked = spec.evaluation.metrics if spec.evaluation else []
    gate = [spec.evaluation.gate.metric] if spec.evaluation and spec.evaluation.gate else []
    metrics = tuple(dict.fromkeys([*rules.metrics, *asked, *gate]))
    return Run(
        train=resolution.train,
        counts=counts_of(spec, resolution.train),
        validation=resolution.validation if len(resolution.validation) else None,
        retention=resolution.retention,
        collator=make_collator(rules, plan, resolution.tokenizer, model),
        loss=loss_of(spec, resolution.labels),
        metrics=metrics,
        plan=plan,
        settings=spec.training,
    )


def make_collator(rules: TaskRules, plan: Plan, tokenizer: Any, model: Any) -> Collator:
    """Return the collator of a task."""
    config = model.config
    start = getattr(config, "decoder_start_token_id", None) if rules.peft_task == "SEQ_2_SEQ_LM" else None
    return Collator(rules, pad_id=pad_id(tokenizer), packed=plan.packing, decoder_start_id=start)


def pad_id(tokenizer: Any) -> int:
    """Return a token to pad with. Any will do: padding is neither attended to nor learned."""
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return int(next(each for each in candidates if each is not None))


def guessing_loss(spec: LoRAJobSpec, resolution: Resolution, model: Any) -> float:
    """Return the loss of blind guessing, in nats: that of a model which knows nothing."""
    if spec.objective is Objective.DPO:
        return math.log(2)
    choices = len(resolution.labels) or model.config.get_text_config().vocab_size
    return math.log(max(choices, 2))


def needs_autocast(spec: LoRAJobSpec) -> bool:
    """Whether some modules keep float32 weights and are to compute in bfloat16: new heads, adapters not fused."""
    return rules_of(spec).whole_modules or bool(spec.lora.modules_to_save) or spec.lora.dropout > 0 or spec.lora.do_ra


def training_arguments(
    spec: LoRAJobSpec, plan: Plan, folder: Path, model: Any, device: torch.device, ranks: Ranks
) -> TrainingArguments:
    """Return the arguments of transformers' Trainer. What it saves, reports or guesses by itself is switched off."""
    training, dtype = spec.training, model.dtype
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        max_steps=plan.total_steps,
        learning_rate=training.learning_rate or rules_of(spec).learning_rate,
        optim="adamw_torch_fused",
        adam_beta2=0.999,
        weight_decay=0.0,
        max_grad_norm=1.0,
        bf16=dtype is torch.bfloat16 and needs_autocast(spec),
        fp16=dtype is torch.float16,
        seed=training.seed,
        data_seed=training.seed,
        eval_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=device.type == "cpu",
        ddp_find_unused_parameters=False if ranks.size > 1 else None,
    )
