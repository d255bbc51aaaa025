"""The validation split: seeded, and blind to the order of the rows.

Rows with the same content stay on one side, or the validation loss would measure memory. The order of choice is a
hash of seed and content, so a row keeps its side when others are added, as far as the count allows.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lora_trainer.data.examples import Int64
from lora_trainer.errors import bad_data


class Split(NamedTuple):
    """Indices of the rows on each side, ascending."""

    train: Int64
    validation: Int64


def split_by_fraction(digests: Sequence[bytes], fraction: float, seed: int) -> Split:
    """Set aside about `fraction` of the rows, at least one, in whole groups of equal rows.

    Raises a `TrainerError` (65) when the rows cannot be divided.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        groups[digest].append(index)
    if len(groups) < 2:
        raise bad_data(
            f"spec.dataset.validation.fraction: {len(digests)} rows, {len(groups)} of them distinct, cannot be split",
            "add rows, or remove spec.dataset.validation",
        )
    wanted = max(1, round(fraction * len(digests)))
    salt = f"{seed}:".encode()
    order = sorted(groups, key=lambda digest: hashlib.sha256(salt + digest).digest())
    held = np.zeros(len(digests), np.bool_)
    held[_take(order, groups, wanted)] = True
    return Split(np.flatnonzero(~held), np.flatnonzero(held))


def without(digests: Sequence[bytes], excluded: Sequence[bytes]) -> Int64:
    """Return the indices of the rows whose content is not among the excluded digests."""
    known = set(excluded)
    return np.asarray([index for index, digest in enumerate(digests) if digest not in known], np.int64)


def _take(order: list[bytes], groups: dict[bytes, list[int]], wanted: int) -> list[int]:
    taken: list[int] = []
    for digest in order:
        if len(taken) + len(groups[digest]) <= wanted:
            taken += groups[digest]
    if not taken:  # every group is larger than the share: the smallest one, rather than none
        taken = min((groups[digest] for digest in order), key=len)
    return taken
