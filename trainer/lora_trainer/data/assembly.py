"""From prepared sets to the rows of a training: divided, cut and mixed. Pure, and the same on every machine."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lora_api.lorajob import LoRAJobSpec
from lora_api.training import Task
from lora_trainer.data.examples import Examples, Int64
from lora_trainer.data.labels import MAX_LABELS, ordered_names, renumbered
from lora_trainer.data.lengths import Fitted, default_max_length, fit_to_length, row_lengths
from lora_trainer.data.mixture import by_weight, joined
from lora_trainer.data.prepare import Prepared
from lora_trainer.data.source import Source
from lora_trainer.data.split import split_by_fraction, without
from lora_trainer.errors import bad_data, invalid_request


@dataclass(frozen=True)
class ReadSet:
    """One set, and where it came from."""

    source: Source
    prepared: Prepared
    digest: str
    """SHA-256 (hex) of the names and contents of its files."""

    @property
    def digests(self) -> list[bytes]:
        """What each row teaches."""
        content = self.prepared.digests.tobytes()
        return [content[start : start + 32] for start in range(0, len(content), 32)]


@dataclass(frozen=True)
class Data:
    """What is trained, validated and measured on."""

    train_sets: list[ReadSet]
    other_sets: list[ReadSet]
    """The validation and the retention set, where they are sets of their own."""
    digest: str
    """`sha256:<hex>` of all files that are trained or validated on."""
    epoch: Examples
    """What one epoch trains on: a row of a set with a weight of 2 is in it twice."""
    train: Fitted
    """The same, each row once."""
    validation: Fitted
    retention: Examples | None
    labels: list[str]
    """Names of the classes by their number; none for a task without classes."""
    max_length: int
    """Longest row in tokens."""
    lengths: Int64
    """Length of every row that is trained or validated on, before any cut."""
    duplicates: int
    """Rows, of the sets that are trained on, with the same content as an earlier one."""
    overlapping: int
    """Training rows left out because the validation set has them too."""


@dataclass(frozen=True)
class _Whole:
    """All sets that are trained on, joined in order."""

    examples: Examples
    digests: list[bytes]
    owners: Int64
    """Number of each row's set."""


@dataclass(frozen=True)
class _Division:
    train: Int64
    validation: Examples
    overlapping: int


def assemble(
    spec: LoRAJobSpec,
    model_limit: int,
    train_sets: Sequence[ReadSet],
    *,
    validation: ReadSet | None = None,
    retention: ReadSet | None = None,
) -> Data:
    """Divide, cut and mix the sets of a job; `model_limit` is the longest sequence that the model can place.

    Raises a `TrainerError`: 65 for rows that cannot be divided or are too long, 64 for a length beyond the model.
    """
    other_sets = [each for each in (validation, retention) if each is not None]
    labels = _labels(spec, [*train_sets, *other_sets])
    whole = _joined(train_sets, labels)
    division = _divide(spec, whole, validation, labels)

    rows = whole.examples if len(division.train) == len(whole.digests) else whole.examples.select(division.train)
    max_length = _max_length(spec, model_limit, row_lengths(rows))
    tail = train_sets[0].prepared.facts.tail
    train, held = (fit_to_length(each, max_length, tail) for each in (rows, division.validation))
    lengths = np.concatenate([row_lengths(rows), row_lengths(division.validation)])
    _check_cut(spec, max_length, lengths, train, held)
    return Data(
        train_sets=list(train_sets),
        other_sets=other_sets,
        digest=_digest([*train_sets, *([validation] if validation else [])]),
        epoch=_epoch(train, whole.owners[division.train], train_sets, spec.training.seed),
        train=train,
        validation=held,
        retention=fit_to_length(_examples(retention, labels), max_length, tail).examples if retention else None,
        labels=labels,
        max_length=max_length,
        lengths=lengths,
        duplicates=len(whole.digests) - len(set(whole.digests)),
        overlapping=division.overlapping,
    )


def _labels(spec: LoRAJobSpec, sets: Sequence[ReadSet]) -> list[str]:
    if spec.task not in (Task.SEQUENCE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION):
        return []
    names = ordered_names(name for each in sets for name in each.prepared.facts.labels)
    if not 2 <= len(names) <= MAX_LABELS:
        raise bad_data(
            f"spec.dataset.train: the classes of the rows are {len(names)}, and 2 to {MAX_LABELS} can be learned",
            "check the column with the classes",
        )
    return names


def _joined(sets: Sequence[ReadSet], labels: Sequence[str]) -> _Whole:
    return _Whole(
        joined([_examples(each, labels) for each in sets]),
        [digest for each in sets for digest in each.digests],
        np.repeat(np.arange(len(sets)), [len(each.prepared.examples) for each in sets]),
    )


def _examples(read: ReadSet, labels: Sequence[str]) -> Examples:
    return renumbered(read.prepared.examples, read.prepared.facts.labels, labels)


def _divide(spec: LoRAJobSpec, whole: _Whole, held: ReadSet | None, labels: Sequence[str]) -> _Division:
    asked = spec.dataset.validation
    if held is not None:
        kept = without(whole.digests, held.digests)
        if not len(kept):
            raise bad_data(f"{held.source.location}: every training row is in it", "use validation rows of their own")
        return _Division(kept, _examples(held, labels), len(whole.digests) - len(kept))
    if asked is None or asked.fraction is None:
        return _Division(np.arange(len(whole.digests)), whole.examples.select([]), 0)
    split = split_by_fraction(whole.digests, asked.fraction, spec.training.seed)
    return _Division(split.train, whole.examples.select(split.validation), 0)


def _epoch(train: Fitted, owners: Int64, sets: Sequence[ReadSet], seed: int) -> Examples:
    weights = [each.source.weight for each in sets]
    if all(weight == 1 for weight in weights):
        return train.examples
    return train.examples.select(by_weight(owners[train.kept], weights, seed))


def _max_length(spec: LoRAJobSpec, model_limit: int, lengths: Int64) -> int:
    wanted = spec.training.max_length
    if wanted is None:
        return default_max_length(lengths, model_limit)
    if wanted > model_limit:
        raise invalid_request(
            f"spec.training.maxLength: {wanted} is more than the base model can place", f"use at most {model_limit}"
        )
    return wanted


def _check_cut(spec: LoRAJobSpec, max_length: int, lengths: Int64, train: Fitted, held: Fitted) -> None:
    allowed, longest = spec.preflight.maximum_truncated_fraction, int(lengths.max())
    truncated = train.truncated + held.truncated
    if truncated > allowed * len(lengths):
        raise bad_data(
            f"{truncated} of {len(lengths)} rows are longer than {max_length} tokens (the longest has {longest}); "
            f"more than {allowed:.0%} would be cut",
            f"set spec.training.maxLength up to {longest}, or shorten the rows",
        )
    if not len(train.examples):
        raise bad_data(f"spec.training.maxLength: at {max_length} tokens no row has anything left to learn", "raise it")
    if spec.dataset.validation is not None and not len(held.examples):
        message = f"spec.training.maxLength: at {max_length} tokens no validation row has anything left to learn"
        raise bad_data(message, "raise it, or change spec.dataset.validation")


def _digest(sets: Sequence[ReadSet]) -> str:
    if len(sets) == 1:
        return f"sha256:{sets[0].digest}"
    content = "".join(f"{each.source.field}\n{each.digest}\n" for each in sets)
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()
