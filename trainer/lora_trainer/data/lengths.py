"""How long rows are, how long they may be, and what is left of those that are longer. Arithmetic on whole arrays."""

import math
from dataclasses import dataclass

import numpy as np

from lora_trainer.data.examples import (
    CHOSEN,
    INPUT_IDS,
    REJECTED,
    TARGET_IDS,
    Column,
    Examples,
    Int64,
)

MAX_DEFAULT_LENGTH = 4096
"""Longest row when none is asked for; beyond it activations, not data, decide what fits."""
_LENGTH_STEP = 128
_LENGTH_SHARE = 0.99


@dataclass(frozen=True)
class Fitted:
    """Examples cut to a length."""

    examples: Examples
    truncated: int
    """Rows that were cut."""
    dropped: int
    """Rows of which the cut left nothing to learn; they are part of `truncated`."""
    kept: Int64
    """Which of the rows are left."""


def row_lengths(examples: Examples) -> Int64:
    """Return the length of each row in tokens; of one with two sides, that of the longer side."""
    sides = [column.lengths for name, column in examples.columns.items() if name.endswith("_ids")]
    return np.max(sides, axis=0) if sides else np.zeros(0, np.int64)


def percentile(lengths: Int64, share: float) -> int:
    """Return the smallest length that at least this share of the rows do not exceed."""
    return int(np.sort(lengths)[max(0, math.ceil(share * len(lengths)) - 1)]) if len(lengths) else 0


def default_max_length(lengths: Int64, model_limit: int) -> int:
    """Return the 99th percentile of the lengths, rounded up to 128, at most 4096 and what the model can place."""
    rounded = math.ceil(percentile(lengths, _LENGTH_SHARE) / _LENGTH_STEP) * _LENGTH_STEP
    return max(1, min(rounded, MAX_DEFAULT_LENGTH, model_limit))


def histogram(lengths: Int64) -> dict[int, int]:
    """Return how many rows are at most so long, and longer than the bound before: powers of two from 16 on."""
    if not len(lengths):
        return {}
    exponents = np.maximum(4, np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64))
    counts = np.bincount(exponents)
    return {2**exponent: int(counts[exponent]) for exponent in range(4, len(counts))}


def fit_to_length(examples: Examples, max_length: int, tail: int) -> Fitted:
    """Cut examples to a length, and drop those with nothing left to learn.

    The last `tail` tokens of a source or a text stay, as a model expects them at the end. A target is cut plainly: an
    end after it would teach to stop in the middle.
    """
    too_long = row_lengths(examples) > max_length
    if not too_long.any():
        return Fitted(examples, 0, 0, np.arange(len(examples)))
    cut = Examples(
        {name: _cut(column, max_length, 0 if name == TARGET_IDS else tail) for name, column in examples.columns.items()}
    )
    kept = np.flatnonzero(_learns(cut))
    dropped = len(cut) - len(kept)
    return Fitted(cut.select(kept) if dropped else cut, int(too_long.sum()), dropped, kept)


def _learns(examples: Examples) -> "np.typing.NDArray[np.bool_]":
    """Return which rows have something to learn; of pairs, on both sides."""
    if CHOSEN + INPUT_IDS not in examples.columns:
        return examples.learned > 0
    sides = [
        Examples({name: column for name, column in examples.columns.items() if name.startswith(side)}).learned
        for side in (CHOSEN, REJECTED)
    ]
    return np.minimum(*sides) > 0


def _cut(column: Column, max_length: int, tail: int) -> Column:
    """Take out what is too much of each row before its last `tail` values. Only the long rows cost time."""
    lengths = column.lengths
    tail = min(tail, max_length - 1)
    left = np.ones(len(column.values), np.bool_)
    for row in np.flatnonzero(lengths > max_length):
        left[column.offsets[row] + max_length - tail : column.offsets[row + 1] - tail] = False
    offsets = np.concatenate([[0], np.cumsum(np.minimum(lengths, max_length))]).astype(np.int64)
    return Column(column.values[left], offsets)
