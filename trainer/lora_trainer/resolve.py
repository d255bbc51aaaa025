"""From a request to what it means: base revision, target modules, examples, batches, memory.

Preflight and training call the same function, so a training without a preflight decides the same. Reads config,
tokenizer, headers and data; never a weight, and never torch.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from lora_api.lorajob import LoRAJobSpec
from lora_api.messages import Activity, Resolved
from lora_api.sources import DataFormat
from lora_api.training import Precision
from lora_trainer.context import Context
from lora_trainer.data.chat import ChatTokenizer
from lora_trainer.data.prepare import Example, Fitted, default_max_length, fit_to_length, tokenize_rows
from lora_trainer.data.rows import RowSet, read_rows
from lora_trainer.data.split import split_by_fraction, without
from lora_trainer.errors import bad_data, invalid_request
from lora_trainer.logs import log, warn
from lora_trainer.model.base import BaseModel, describe_base, download_small_files
from lora_trainer.model.estimate import estimate_memory
from lora_trainer.model.targets import ranks, resolve_targets, trainable_parameters
from lora_trainer.publish.servability import verdicts
from lora_trainer.report import DataReport, Report, library_versions
from lora_trainer.storage.s3 import Location
from lora_trainer.training.plan import choose_plan


@dataclass(frozen=True)
class Resolution:
    """What a request turned out to mean, with the examples themselves."""

    base: BaseModel
    tokenizer: Any
    """Tokenizer of transformers."""
    train: list[Example]
    validation: list[Example]
    report: Report


@dataclass(frozen=True)
class _Data:
    rows: RowSet
    train: list[Example]
    validation: list[Example]
    digest: str
    without_end: int
    duplicates_removed: int


def resolve(context: Context) -> Resolution:
    """Read everything but the weights, check it, and decide.

    Raises `TrainerError` with the field and the fix of whatever is wrong: 64, 65, 66, 69 or 77.
    """
    spec = context.job.spec
    base = describe_base(context.storage, context.base)
    log("base model found", uri=base.location.uri, revision=base.revision, parameters=base.parameters)
    targets = resolve_targets(spec.lora, base.layers)
    layer_ranks = ranks(spec.lora, targets, base.layers)
    trainable = trainable_parameters(layer_ranks, base.layers)

    context.progress.enter(Activity.LOADING_DATA)
    tokenizer = _load_tokenizer(download_small_files(context.storage, base, context.workspace), base.location)
    data = _read_data(context, ChatTokenizer(tokenizer, base.end_ids))
    max_length = _max_length(spec, base, data)
    train, validation = fit_to_length(data.train, max_length), fit_to_length(data.validation, max_length)
    _check_truncation(spec, data, max_length, train.truncated + validation.truncated)

    plan = choose_plan(spec.training, len(train.examples), max_length, gpu=spec.resources.gpus > 0)
    resolved = Resolved(
        base_revision=base.revision,
        dataset_digest=data.digest,
        rows=len(train.examples),
        validation_rows=len(validation.examples),
        tokens=train.tokens,
        parameters=base.parameters,
        trainable_parameters=trainable,
        plan=plan,
        memory_estimate=estimate_memory(base.config, base.parameters, trainable, plan, _bytes_per_value(spec)),
    )
    report = _report(spec, resolved, data, train, validation, targets)
    for warning in report.warnings:
        warn(warning)
    return Resolution(base, tokenizer, train.examples, validation.examples, report)


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


def _read_data(context: Context, tokenizer: ChatTokenizer) -> _Data:
    spec = context.job.spec
    rows, digest = _read_file(context, context.train_data, spec.dataset.train.format)
    validation = spec.dataset.validation
    if validation is None:
        encoded = tokenize_rows(tokenizer, rows)
        return _Data(rows, encoded.examples, [], f"sha256:{digest}", encoded.without_end, 0)
    if context.validation_data is None:
        encoded = tokenize_rows(tokenizer, rows)
        split = split_by_fraction(rows.digests, validation.fraction or 0.0, spec.training.seed)
        train, held = ([encoded.examples[index] for index in side] for side in split)
        return _Data(rows, train, held, f"sha256:{digest}", encoded.without_end, 0)
    held_rows, held_digest = _read_file(context, context.validation_data, validation.format)
    kept = without(rows.digests, held_rows.digests)
    if not kept:
        raise bad_data(f"{rows.uri}: every row is also in {held_rows.uri}", "use validation rows of their own")
    encoded, held_encoded = tokenize_rows(tokenizer, rows), tokenize_rows(tokenizer, held_rows)
    return _Data(
        rows,
        [encoded.examples[index] for index in kept],
        held_encoded.examples,
        "sha256:" + hashlib.sha256(f"{digest}\n{held_digest}\n".encode()).hexdigest(),
        encoded.without_end + held_encoded.without_end,
        len(rows.rows) - len(kept),
    )


def _read_file(context: Context, location: Location, wanted: DataFormat) -> tuple[RowSet, str]:
    """Return the rows of a file, and the SHA-256 of its bytes in hexadecimal."""
    name = PurePosixPath(location.key).name
    if location.uri.endswith("/") or not name.endswith((".jsonl", ".ndjson")):
        raise invalid_request(
            f"{location.field}: {location.uri} is not a .jsonl file",
            "name one s3://bucket/path.jsonl with one row a line",
        )
    local = context.workspace.run_folder("data") / f"{hashlib.sha256(location.uri.encode()).hexdigest()[:16]}-{name}"
    context.storage.download(location, local)
    with local.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with local.open("rb") as lines:
        rows = read_rows(location.uri, lines, wanted)
    log("data read", uri=location.uri, rows=len(rows.rows), format=rows.format.value, detected=rows.detected)
    return rows, digest


def _max_length(spec: LoRAJobSpec, base: BaseModel, data: _Data) -> int:
    wanted = spec.training.max_length
    if wanted is None:
        return default_max_length([len(example) for example in data.train], base.max_positions)
    if wanted > base.max_positions:
        raise invalid_request(
            f"spec.training.maxLength: {wanted} is more than the base model can place",
            f"use at most {base.max_positions}",
        )
    return wanted


def _check_truncation(spec: LoRAJobSpec, data: _Data, max_length: int, truncated: int) -> None:
    total = len(data.train) + len(data.validation)
    allowed = spec.preflight.maximum_truncated_fraction
    if truncated > allowed * total:
        longest = max(len(example) for example in data.train + data.validation)
        raise bad_data(
            f"{truncated} of {total} rows are longer than {max_length} tokens (the longest has {longest}); "
            f"more than {allowed:.0%} would be cut",
            f"set spec.training.maxLength up to {longest}, or shorten the rows",
        )


def _report(
    spec: LoRAJobSpec, resolved: Resolved, data: _Data, train: Fitted, validation: Fitted, targets: list[str]
) -> Report:
    details = DataReport(
        format=data.rows.format,
        detected_by=data.rows.detected,
        longest_row=max(len(example) for example in data.train + data.validation),
        learned_tokens=train.learned_tokens,
        truncated_rows=train.truncated + validation.truncated,
        dropped_rows=train.dropped + validation.dropped,
        rows_without_end_token=data.without_end,
        duplicates_removed=data.duplicates_removed,
    )
    adapter_config = {
        "r": spec.lora.rank,
        "use_rslora": spec.lora.rs_lora,
        "rank_pattern": spec.lora.rank_pattern,
        "target_modules": targets,
    }
    return Report(
        spec_digest=spec.result_digest(),
        resolved=resolved,
        data=details,
        target_modules=targets,
        servable=verdicts(adapter_config),
        warnings=_warnings(details),
        versions=library_versions(),
        created_time=datetime.now(UTC).replace(microsecond=0),
    )


def _warnings(data: DataReport) -> list[str]:
    warnings = []
    if data.truncated_rows:
        warnings.append(f"{data.truncated_rows} rows are cut, {data.dropped_rows} of them dropped")
    if data.rows_without_end_token:
        warnings.append(
            f"in {data.rows_without_end_token} rows no token ends the answer: the chat template writes none, "
            "and the model may not learn to stop"
        )
    if data.duplicates_removed:
        warnings.append(f"{data.duplicates_removed} training rows are left out, as they are validation rows too")
    return warnings
