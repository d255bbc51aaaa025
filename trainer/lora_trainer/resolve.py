"""From a request to what it means: base revision, target modules, examples, batches, memory.

Preflight and training call the same function, so a training without a preflight decides the same. Reads config,
tokenizer, headers and data; never a weight, and never torch.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lora_api.lorajob import LoRAJobSpec
from lora_api.messages import Activity, MemoryEstimate, Plan, Resolved
from lora_api.servability import verdicts
from lora_api.training import Precision
from lora_trainer.context import Context
from lora_trainer.data.assembly import Data
from lora_trainer.data.dataset import TokenizerFacts, load_data
from lora_trainer.data.examples import Examples
from lora_trainer.data.summary import summarize, warnings_of
from lora_trainer.errors import invalid_request
from lora_trainer.logs import log, warn
from lora_trainer.model.base import BaseModel, describe_base
from lora_trainer.model.estimate import estimate_memory, estimated_seconds, memory_of
from lora_trainer.model.fetch import download_small_files
from lora_trainer.model.shape import AdapterShape, adapter_shape
from lora_trainer.publish.forms import check_forms
from lora_trainer.publish.servability import expected_config
from lora_trainer.publish.size import adapter_bytes, full_bytes, stored_bytes_per_value
from lora_trainer.report import DataReport, Report, library_versions
from lora_trainer.storage.location import Location
from lora_trainer.tasks import rules_of
from lora_trainer.training.plan import choose_plan, devices_of, fit_plan, sequences_of, total_tokens

_DEVICE_LABELS = ("nvidia.com/gpu.product", "cloud.google.com/gke-accelerator", "karpenter.k8s.aws/instance-gpu-name")
"""Labels of nodes by which jobs choose their GPU."""
_DECIDING_LIBRARIES = ("transformers", "tokenizers", "lora-operator")
"""Of the libraries, those that decide which tokens a row becomes."""


@dataclass(frozen=True)
class Resolution:
    """What a request turned out to mean, with the examples themselves."""

    base: BaseModel
    tokenizer: Any
    """Tokenizer of transformers."""
    train: Examples
    """What one epoch trains on."""
    validation: Examples
    """Empty without a validation."""
    retention: Examples | None
    """A general set that shows what the model forgets."""
    labels: list[str]
    """Names of the classes by their number; empty for a task without classes."""
    report: Report


def resolve(context: Context) -> Resolution:
    """Read everything but the weights, check it, and decide.

    Raises `TrainerError` with the field and the fix of whatever is wrong: 64, 65, 66, 69 or 77.
    """
    spec = context.job.spec
    base = describe_base(context.storage, context.base, spec.base_model.revision, spec.task)
    log("base model found", uri=base.location.uri, revision=base.revision, parameters=base.parameters)
    adapter_shape(spec, base.config, base.shapes, labels=0)  # refuses settings before the data are read

    context.progress.enter(Activity.LOADING_DATA)
    folder = download_small_files(context.storage, base, context.workspace)
    tokenizer = _load_tokenizer(folder, base.location)
    data = load_data(context, TokenizerFacts(tokenizer, folder, base.end_ids, base.max_positions), _versions())

    details = summarize(data)
    shape = adapter_shape(spec, base.config, base.shapes, len(data.labels))
    check_forms(spec, base.config, list(shape.ranks))
    plan = _plan(spec, data)
    resolved = Resolved(
        base_revision=base.revision,
        dataset_digest=data.digest,
        rows=len(data.epoch),
        validation_rows=len(data.validation.examples),
        tokens=int(data.epoch.lengths.sum()),
        parameters=base.parameters,
        trainable_parameters=shape.trainable,
        plan=plan,
        memory_estimate=_memory(spec, base, shape, plan),
        format=data.train_sets[0].prepared.facts.format.value,
        truncated_rows=data.train.truncated + data.validation.truncated,
        duplicate_rows=data.duplicates,
        adapter_bytes=adapter_bytes(shape.published),
        full_bytes=full_bytes(base.parameters, stored_bytes_per_value(base.config)),
        estimated_seconds=_seconds(spec, base, data),
        servable=verdicts(expected_config(spec, shape.targets)),
        warnings=warnings_of(data, details),
    )
    resolved = _fitted(spec, base, shape, resolved)
    for warning in resolved.warnings:
        warn(warning)
    report = _report(spec, resolved, details, shape.targets)
    return Resolution(base, tokenizer, data.epoch, data.validation.examples, data.retention, data.labels, report)


def _plan(spec: LoRAJobSpec, data: Data) -> Plan:
    return choose_plan(
        spec.training,
        len(data.epoch),
        data.max_length,
        gpu=spec.resources.gpus > 0,
        packable=rules_of(spec).packable,
        sequences=sequences_of(spec),
        devices=devices_of(spec),
    )


def _fitted(spec: LoRAJobSpec, base: BaseModel, shape: AdapterShape, resolved: Resolved) -> Resolved:
    """Return the same with a plan that fits the GPU, where the job chooses its node by one that tells its memory."""
    device = _device(spec)
    plan = fit_plan(resolved, base.config, spec, _bytes_per_value(spec), memory_of(device) if device else None)
    return resolved.model_copy(update={"plan": plan, "memory_estimate": _memory(spec, base, shape, plan)})


def _device(spec: LoRAJobSpec) -> str | None:
    """Return the name of the GPU that the job asks for by a label of the node."""
    labels = spec.scheduling.node_selector
    return next((labels[name] for name in _DEVICE_LABELS if name in labels), None)


def _memory(spec: LoRAJobSpec, base: BaseModel, shape: AdapterShape, plan: Plan) -> MemoryEstimate:
    return estimate_memory(
        base.config,
        base.parameters,
        shape.trainable,
        plan,
        _bytes_per_value(spec),
        quantization=spec.quantization,
        sequences=sequences_of(spec),
        devices=devices_of(spec),
    )


def _seconds(spec: LoRAJobSpec, base: BaseModel, data: Data) -> int | None:
    """Return the expected time of the training, where the job chooses its node by a GPU whose rate is known."""
    tokens = total_tokens(spec.training, len(data.epoch), int(data.epoch.lengths.sum()))
    return estimated_seconds(tokens, base.parameters, device=_device(spec), devices=devices_of(spec))


def _bytes_per_value(spec: LoRAJobSpec) -> int:
    """Return the bytes of a weight, as far as they are known before the device is: Auto is bfloat16 on a GPU."""
    precision = spec.training.precision
    full = precision is Precision.FP32 or (precision is Precision.AUTO and spec.resources.gpus == 0)
    return 4 if full else 2


def _load_tokenizer(folder: Path, location: Location) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise invalid_request(
            f"{location.field}: the tokenizer of {location.uri} does not load ({type(error).__name__})",
            "put tokenizer.json and tokenizer_config.json beside config.json",
        ) from error


def _versions() -> dict[str, str]:
    return {name: version for name, version in library_versions().items() if name in _DECIDING_LIBRARIES}


def _report(spec: LoRAJobSpec, resolved: Resolved, data: DataReport, targets: list[str]) -> Report:
    return Report(
        spec_digest=spec.result_digest(),
        resolved=resolved,
        data=data,
        target_modules=targets,
        servable=resolved.servable,
        warnings=resolved.warnings,
        versions=library_versions(),
        created_time=datetime.now(UTC).replace(microsecond=0),
    )
