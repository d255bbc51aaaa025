"""The sets of rows that a job names: where each lies, how it is read, and how often it is passed."""

from collections.abc import Mapping
from dataclasses import dataclass

from lora_api.lorajob import LoRAJobSpec
from lora_api.sources import DataFormat, DataSource, Validation
from lora_trainer.data.formats import check_format
from lora_trainer.storage.location import Location


@dataclass(frozen=True)
class Source:
    """One set of rows."""

    field: str
    """Field of the job that names it, such as spec.dataset.train."""
    location: Location
    format: DataFormat
    columns: Mapping[str, str]
    weight: float = 1.0
    """Passes over the set in one epoch."""


@dataclass(frozen=True)
class Sources:
    """All sets of a job."""

    train: list[Source]
    """The set that is trained on, and those that are mixed into it."""
    validation: Source | None
    """A validation set of its own."""
    retention: Source | None


def sources_of(spec: LoRAJobSpec) -> Sources:
    """Return the sets of a job. Raises 64 for a format that the task cannot learn."""
    dataset, retention = spec.dataset, spec.evaluation.retention if spec.evaluation else None
    mixture = [_source(spec, each, f"spec.dataset.mixture[{index}]") for index, each in enumerate(dataset.mixture)]
    return Sources(
        [_source(spec, dataset.train, "spec.dataset.train"), *mixture],
        _source(spec, dataset.validation, "spec.dataset.validation") if dataset.validation else None,
        _source(spec, retention, "spec.evaluation.retention") if retention else None,
    )


def _source(spec: LoRAJobSpec, named: DataSource | Validation, field: str) -> Source | None:
    if named.uri is None:
        return None
    check_format(spec, named.format, field)
    weight = named.weight if isinstance(named, DataSource) else 1.0
    return Source(field, Location(named.uri, f"{field}.uri"), named.format, named.columns, weight)
