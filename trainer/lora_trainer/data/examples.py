"""Examples: what rows have become, as the model sees them.

Stored by column, in flat arrays: a million rows are a few arrays and no million objects, so they are cached, sent and
cut without a loop. Knows nothing of formats, tokenizers or torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

IGNORED = -100
"""Label of a token that is not learned."""

INPUT_IDS, LABELS, TARGET_IDS = "input_ids", "labels", "target_ids"
CHOSEN, REJECTED = "chosen_", "rejected_"
"""Prefixes of the two sides of a preference pair: `chosen_input_ids`, `chosen_labels`, and so on."""

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Example = dict[str, Int32]
"""One example: each column's values."""


@dataclass(frozen=True)
class Column:
    """One sequence of numbers an example: example i has `values[offsets[i]:offsets[i + 1]]`."""

    values: Int32
    offsets: Int64

    @property
    def lengths(self) -> Int64:
        """Length of each example's sequence."""
        return np.diff(self.offsets)

    def select(self, indices: Int64) -> "Column":
        """Return the column of some examples, in the order of the indices."""
        lengths = self.lengths[indices]
        offsets = _offsets(lengths)
        # For each value taken: where its example starts in the source, plus its place within the example.
        places = np.repeat(self.offsets[:-1][indices] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Column(self.values[places], offsets)


@dataclass(frozen=True)
class Examples:
    """A set of examples. Which columns there are depends on the task.

    Causal language models have `input_ids` and `labels` of one length, where `labels` is the token itself or `IGNORED`
    (not shifted). Preference pairs have both twice, with the prefixes `CHOSEN` and `REJECTED`. Sequence to sequence
    has the source in `input_ids` and the target, all of it learned, in `target_ids`. Sequence classification has one
    class in `labels`; token classification one class or `IGNORED` for each token.
    """

    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).offsets) - 1

    def __getitem__(self, index: int) -> Example:
        return {
            name: column.values[column.offsets[index] : column.offsets[index + 1]]
            for name, column in self.columns.items()
        }

    @cached_property
    def lengths(self) -> Int64:
        """Tokens that the model computes for each example."""
        parts = [column.lengths for name, column in self.columns.items() if name.endswith("_ids")]
        return np.sum(parts, axis=0, dtype=np.int64)

    @cached_property
    def learned(self) -> Int64:
        """Labels of each example that the loss is taken over."""
        counts = [
            _count_learned(column) for name, column in self.columns.items() if name.endswith((LABELS, TARGET_IDS))
        ]
        return np.sum(counts, axis=0, dtype=np.int64)

    def select(self, indices: Sequence[int] | Int64) -> "Examples":
        """Return some examples, in the order of the indices; an index may come twice."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Examples({name: column.select(chosen) for name, column in self.columns.items()})


def examples_of(rows: Sequence[Mapping[str, Sequence[int]]]) -> Examples:
    """Return the examples of rows that all have the same columns. For no rows there are no columns."""
    names = rows[0].keys() if rows else ()
    return Examples({name: _column([row[name] for row in rows]) for name in names})


def _column(sequences: Sequence[Sequence[int]]) -> Column:
    offsets = _offsets(np.fromiter((len(each) for each in sequences), np.int64, len(sequences)))
    values = np.empty(int(offsets[-1]), np.int32)
    for start, each in zip(offsets, sequences, strict=False):
        values[start : start + len(each)] = each
    return Column(values, offsets)


def _offsets(lengths: Int64) -> Int64:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _count_learned(column: Column) -> Int64:
    sums = np.concatenate([[0], np.cumsum(column.values != IGNORED)])
    return sums[column.offsets[1:]] - sums[column.offsets[:-1]]
