"""The preflight report: what the request turned out to mean, stored beside the run.

The training reads it back and must find the same base and the same data; whoever debugs a job reads it first.
"""

import importlib.metadata
import platform
from datetime import datetime

from pydantic import ValidationError

from lora_api.base import StatusModel
from lora_api.messages import Resolved, Servability
from lora_api.sources import DataFormat
from lora_trainer.context import Context
from lora_trainer.data.prepare import FileRows

_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "lora-operator")


class SetReport(StatusModel):
    """One set of rows."""

    uri: str
    digest: str
    """sha256:<hex> of the names and contents of its files."""
    format: DataFormat
    detected_by: str
    """What the detection of the format went by."""
    weight: float
    """Passes over the set in one epoch."""
    rows: int
    files: list[FileRows]
    """The first files, with the rows of each."""
    file_count: int


class LengthBin(StatusModel):
    """Rows that are at most so many tokens long, and longer than the bin before says."""

    up_to: int
    rows: int


class LabelCount(StatusModel):
    """How many rows, or words, of the training data have a class."""

    name: str
    count: int


class DataReport(StatusModel):
    """What is in the data."""

    sets: list[SetReport]
    """The set that is trained on, those mixed into it, then the validation and the retention set."""
    format: DataFormat
    detected_by: str
    lengths: list[LengthBin]
    """Token lengths of all rows, before any cut."""
    median_length: int
    length_of_90_percent: int
    length_of_99_percent: int
    longest_row: int
    learned_tokens: int
    """Tokens, or labels, that the loss is taken over, in one epoch."""
    truncated_rows: int
    """Rows that are longer than maxLength, on both sides of the split."""
    truncated_fraction: float
    dropped_rows: int
    """Of these, rows of which the cut leaves nothing to learn."""
    duplicate_rows: int
    """Rows with the same content as an earlier one; all of them are on one side of the split."""
    duplicate_fraction: float
    overlapping_rows: int
    """Training rows left out because the validation set has them too."""
    equal_pairs: int
    """Preference pairs left out because both sides are the same."""
    rows_without_end_token: int
    """Rows with an answer that no token ends; a model trained on them may not stop."""
    labels: list[LabelCount]
    """Classes, the most frequent first, bounded."""
    label_count: int


class Report(StatusModel):
    """Content of report.json."""

    spec_digest: str
    """Digest of the spec that was checked, see `LoRAJobSpec.result_digest`."""
    resolved: Resolved
    data: DataReport
    target_modules: list[str]
    servable: list[Servability]
    warnings: list[str]
    versions: dict[str, str]
    created_time: datetime


def read_report(context: Context) -> Report | None:
    """Return the report of this run's preflight, or None when there is none for this spec."""
    stored = context.storage.read_if_there(context.output(context.layout.report))
    if stored is None:
        return None
    try:
        report = Report.model_validate_json(stored)
    except ValidationError:  # of another version of the trainer
        return None
    return report if report.spec_digest == context.job.spec.result_digest() else None


def write_report(context: Context, report: Report) -> None:
    """Store the report."""
    encoded = report.model_dump_json(by_alias=True, exclude_none=True, indent=2)
    context.storage.write(context.output(context.layout.report), encoded.encode())


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide the result. Imports none of them."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
