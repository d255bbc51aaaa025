"""Several sets as one: joined in order, and each passed as often as its weight says.

The choice of a part of a set follows from the seed alone.
"""

import math
from collections.abc import Sequence

import numpy as np

from lora_trainer.data.examples import Column, Examples, Int64


def joined(sets: Sequence[Examples]) -> Examples:
    """Return the examples of all sets, one set after the other. They have the same columns."""
    if len(sets) == 1:
        return sets[0]
    names = sets[0].columns.keys() if sets else ()
    return Examples({name: _joined([each.columns[name] for each in sets]) for name in names})


def by_weight(owners: Int64, weights: Sequence[float], seed: int) -> Int64:
    """Return the rows of one epoch, by their index.

    `owners` is the number of each row's set, and the weight of a set the passes over it: 2 takes each row twice, 0.5
    takes half of the rows, and 1.5 all of them and a half once more. A set gives at least one row.
    """
    passes = [_passes(np.flatnonzero(owners == number), weight, seed, number) for number, weight in enumerate(weights)]
    return np.concatenate(passes)


def _passes(rows: Int64, weight: float, seed: int, number: int) -> Int64:
    whole = math.floor(weight)
    part = round((weight - whole) * len(rows))
    if whole == 0 and len(rows):
        part = max(1, part)
    chosen = np.random.default_rng([seed, number]).permutation(rows)[:part]
    return np.concatenate([np.tile(rows, whole), np.sort(chosen)])


def _joined(columns: Sequence[Column]) -> Column:
    lengths = np.concatenate([column.lengths for column in columns])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Column(np.concatenate([column.values for column in columns]), offsets)
