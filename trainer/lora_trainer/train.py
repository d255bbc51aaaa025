"""Training: one story, from the job file to the manifest."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from lora_api.artifacts import Manifest, ManifestBaseModel, ManifestDataset, ManifestJob, digest_of
from lora_api.messages import Activity, AdapterResult, Plan, Resolved, TerminationMessage
from lora_api.reasons import Reason
from lora_api.training import Training
from lora_trainer.context import Context
from lora_trainer.errors import invalid_request
from lora_trainer.logs import log, warn
from lora_trainer.model.base import BaseModel, download_base
from lora_trainer.model.estimate import estimate_memory
from lora_trainer.model.load import add_adapter, choose_device, choose_precision, device_memory, load_base
from lora_trainer.publish.publication import file_entries, publish, save_adapter
from lora_trainer.publish.servability import verdicts
from lora_trainer.report import Report, library_versions, read_report
from lora_trainer.resolve import Resolution, resolve
from lora_trainer.training.plan import evaluation_interval, halved, warmup_steps
from lora_trainer.training.recorder import Recorder
from lora_trainer.training.trainer import Collator, LoraTrainer

DEFAULT_LEARNING_RATE = 2e-4
"""Of SFT with LoRA, about ten times that of training all weights."""
_GPU_MEMORY_SHARE = 0.9


def train(context: Context) -> TerminationMessage:
    """Train the adapter that the job asks for, publish it, and return the last words of the pod.

    Raises `TrainerError` for every foreseen end.
    """
    spec = context.job.spec
    device = choose_device(spec)
    dtype = choose_precision(spec.training.precision, device)

    resolution = resolve(context)
    resolved = agreed(read_report(context), resolution)
    plan = fit_device(resolved, resolution.base, dtype, device_memory(device))

    context.progress.enter(Activity.LOADING_MODEL)
    folder = download_base(context.storage, resolution.base, context.workspace)
    model = add_adapter(load_base(folder, dtype), spec.lora, spec.training.seed)

    recorder = Recorder(context.workspace.metrics, context.progress, plan.total_steps)
    arguments = training_arguments(
        spec.training,
        plan,
        context.workspace.run_folder("trainer"),
        dtype,
        device,
        evaluate=bool(resolution.validation),
    )
    log("training starts", device=device.type, precision=str(dtype), threads=torch.get_num_threads(), **plan.wire())
    set_seed(spec.training.seed)
    trainer = LoraTrainer(
        model,
        arguments,
        resolution.train,
        resolution.validation,
        Collator(pad_id(resolution)),
        scheduler=spec.training.scheduler,
        warmup=warmup_steps(spec.training, plan.total_steps),
        recorder=recorder,
        progress=context.progress,
        stop=context.stop,
    )
    trainer.run()

    context.progress.enter(Activity.PUBLISHING)
    with context.stop.deferred():  # a few seconds that finish the work of hours
        result = publish_adapter(context, resolution, resolved, plan, model, recorder.final_metrics())
    message = f"published {result.digest} after {plan.total_steps} steps"
    return TerminationMessage(reason=Reason.FINISHED.value, message=message, step=plan.total_steps, adapter=result)


def agreed(report: Report | None, resolution: Resolution) -> Resolved:
    """Return what preflight and training agree on. Raises 64 when an input changed between them."""
    found = resolution.report.resolved
    if report is None:
        return found
    expected = report.resolved
    if expected.base_revision != found.base_revision:
        raise _changed("spec.baseModel.uri: the base model", expected.base_revision, found.base_revision)
    if expected.dataset_digest != found.dataset_digest:
        raise _changed("spec.dataset: the data", expected.dataset_digest, found.dataset_digest)
    return expected


def fit_device(resolved: Resolved, base: BaseModel, dtype: torch.dtype, memory: int | None) -> Plan:
    """Return the plan, with the micro-batch halved until its estimate fits the GPU. The effective batch stays."""
    plan = resolved.plan
    while memory is not None:
        estimate = estimate_memory(base.config, base.parameters, resolved.trainable_parameters, plan, dtype.itemsize)
        smaller = halved(plan)
        if estimate.total <= _GPU_MEMORY_SHARE * memory or smaller is None:
            break
        plan = smaller
    return plan


def training_arguments(
    training: Training, plan: Plan, folder: Path, dtype: torch.dtype, device: torch.device, *, evaluate: bool
) -> TrainingArguments:
    """Return the arguments of transformers' Trainer. What it saves, reports or guesses by itself is switched off."""
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=plan.micro_batch_size,
        per_device_eval_batch_size=plan.micro_batch_size,
        gradient_accumulation_steps=plan.accumulation_steps,
        max_steps=plan.total_steps,
        learning_rate=training.learning_rate or DEFAULT_LEARNING_RATE,
        optim="adamw_torch_fused",
        adam_beta2=0.999,
        weight_decay=0.0,
        max_grad_norm=1.0,
        bf16=dtype is torch.bfloat16,
        fp16=dtype is torch.float16,
        seed=training.seed,
        data_seed=training.seed,
        eval_strategy="steps" if evaluate else "no",
        eval_steps=evaluation_interval(plan.total_steps),
        eval_on_start=evaluate,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
        use_cpu=device.type == "cpu",
    )


def publish_adapter(
    context: Context, resolution: Resolution, resolved: Resolved, plan: Plan, model: Any, metrics: dict[str, float]
) -> AdapterResult:
    """Save the adapter, describe it in a manifest, and publish both."""
    folder = context.workspace.run_folder("adapter")
    config = save_adapter(model, folder, resolution.base.location.uri)
    files = file_entries(folder)
    job, spec = context.job, context.job.spec
    manifest = Manifest(
        kind="Adapter",
        digest=digest_of(files),
        files=files,
        base_model=ManifestBaseModel(
            name=spec.base_model.uri, uri=spec.base_model.uri, revision=resolved.base_revision
        ),
        dataset=ManifestDataset(
            uri=spec.dataset.train.uri,
            digest=resolved.dataset_digest,
            rows=resolved.rows,
            validation_rows=resolved.validation_rows,
            tokens=resolved.tokens,
        ),
        job=ManifestJob(namespace=job.namespace, name=job.name, uid=job.uid, run=job.run, image=job.image),
        lora=spec.lora.wire(),
        training=spec.training.wire() | {"plan": plan.wire()},
        metrics=metrics,
        seed=spec.training.seed,
        step=plan.total_steps,
        versions=library_versions(),
        servable=verdicts(config),
        created_time=datetime.now(UTC).replace(microsecond=0),
    )
    target = publish(context, folder, manifest)
    return AdapterResult(
        uri=target.uri,
        digest=manifest.digest,
        bytes=sum(file.size for file in files),
        metrics=metrics,
        servable=manifest.servable,
    )


def pad_id(resolution: Resolution) -> int:
    """Return a token to pad with. Any will do: padding is neither attended to nor learned."""
    tokenizer = resolution.tokenizer
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return int(next(each for each in candidates if each is not None))


def _changed(what: str, before: str, now: str) -> Exception:
    warn("an input changed during the job", before=before, now=now)
    return invalid_request(
        f"{what} changed between preflight and training: {before[:19]} became {now[:19]}",
        "change the spec or recreate the job, so that a new run checks it again",
    )
