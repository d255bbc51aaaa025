"""This project's trainer on the rows of a workload: its own plan, model, loop, guard and records; no files, no pod."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench.trainer.models import tokenizer_of
from bench.trainer.observe import StepClock
from bench.trainer.workload import Trace, Workload, load_rows
from lora_api.job_file import JobFile
from lora_api.lorajob import LoRAJobSpec
from lora_api.messages import Plan
from lora_trainer.checkpoint.uploader import BackgroundUploader
from lora_trainer.context import Context
from lora_trainer.data.examples import Examples, examples_of
from lora_trainer.model.build import build_model
from lora_trainer.ranks import Ranks
from lora_trainer.storage.access import Storage
from lora_trainer.training.plan import choose_plan
from lora_trainer.training.setup import make_trainer
from lora_trainer.training.trainer import LoraTrainer
from lora_trainer.workspace import Workspace

_PRECISIONS = {"float32": "FP32", "bfloat16": "BF16"}


@dataclass(frozen=True)
class Resolved:
    """What the trainer reads of a resolution, made of rows that are tokens already."""

    train: Examples
    validation: Examples
    tokenizer: Any
    retention: None = None
    labels: list[str] = field(default_factory=list)


def train_ours(workload: Workload) -> Trace:
    """Train, and return what the trainer has recorded of itself."""
    with tempfile.TemporaryDirectory() as folder:
        context = context_of(spec_of(workload), Path(folder))
        return run(workload, make(workload, context, uploader=None))


def run(workload: Workload, trainer: LoraTrainer) -> Trace:
    """Train, with a clock that runs along."""
    trace = Trace(packed=trainer.plan.packing)
    trainer.add_callback(StepClock(trace))
    trainer.run()
    steps = [line for line in trainer.recorder.history if "loss" in line]
    trace.losses = [line["loss"] for line in steps]
    trace.norms = [line["gradNorm"] for line in steps]
    trace.tokens = [line["tokens"] for line in steps]
    return trace


def spec_of(workload: Workload, **blocks: Any) -> LoRAJobSpec:
    """Return the job of a workload. `blocks` are parts of the spec in their wire form."""
    training = {
        "maxSteps": workload.steps,
        "effectiveBatchSize": workload.rows_per_step,
        "learningRate": workload.learning_rate,
        "scheduler": "Constant",
        "warmupRatio": 0,
        "precision": _PRECISIONS[workload.dtype],
        "packing": workload.contender.packed,
        "activationCheckpointing": "Always" if workload.contender.recompute else "Never",
        "seed": workload.seed,
    }
    return LoRAJobSpec.model_validate(
        {
            "baseModel": {"uri": "s3://bench/base"},
            "dataset": {"train": {"uri": "s3://bench/train.jsonl"}},
            "output": {"uri": "s3://bench/out"},
            "lora": {"rank": workload.rank},
            "resources": {"gpus": int(workload.device != "cpu")},
            **blocks,
            "training": training | blocks.get("training", {}),
        }
    )


def context_of(spec: LoRAJobSpec, folder: Path) -> Context:
    """Return the context of a job that works in a folder."""
    job = JobFile(namespace="bench", name="bench", spec=spec)
    return Context(job, Storage(spec.storage), Workspace(folder, "bench"))


def make(workload: Workload, context: Context, uploader: BackgroundUploader | None) -> LoraTrainer:
    """Return the trainer of a workload, put together as a job's is."""
    spec, device = context.job.spec, torch.device(workload.device)
    ranks, dtype = Ranks(device=device.type), getattr(torch, workload.dtype)
    model, plan = build_model(Path(workload.model), spec, [], plan_of(workload, spec), dtype, device, ranks)
    train, tokenizer = examples_of(load_rows(workload.rows)), tokenizer_of(Path(workload.model))
    resolved: Any = Resolved(train, validation=train.select([]), tokenizer=tokenizer)
    return make_trainer(context, resolved, plan, model, found=None, uploader=uploader, ranks=ranks, device=device)


def plan_of(workload: Workload, spec: LoRAJobSpec) -> Plan:
    """Return the plan that the project makes for such rows on a device of unknown memory."""
    return choose_plan(
        spec.training, workload.rows_per_step, workload.max_length, gpu=workload.device != "cpu", packable=True
    )
