"""The validation split: seeded, and blind to the order of the rows.

Rows with the same content stay on one side, or the validation loss would measure memory. The order of choice is a
hash of seed and content, so a row keeps its side when others are added, as far as the count allows.
"""

import hashlib
from collections import defaultdict
from typing import NamedTuple

from lora_trainer.errors import bad_data


class Split(NamedTuple):
    """Indices of the rows on each side, ascending."""

    train: list[int]
    validation: list[int]


def split_by_fraction(digests: list[str], fraction: float, seed: int) -> Split:
    """Set aside about `fraction` of the rows, at least one, in whole groups of equal rows.

    Raises a `TrainerError` (65) when the rows cannot be divided.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        groups[digest].append(index)
    if len(groups) < 2:
        raise bad_data(
            f"spec.dataset.validation.fraction: {len(digests)} rows, {len(groups)} of them distinct, cannot be split",
            "add rows, or remove spec.dataset.validation",
        )
    wanted = max(1, round(fraction * len(digests)))
    order = sorted(groups, key=lambda digest: hashlib.sha256(f"{seed}:{digest}".encode()).digest())
    validation = _take(order, groups, wanted)
    chosen = set(validation)
    return Split([index for index in range(len(digests)) if index not in chosen], sorted(validation))


def without(digests: list[str], excluded: list[str]) -> list[int]:
    """Return the indices of the rows whose content is not among the excluded digests."""
    known = set(excluded)
    return [index for index, digest in enumerate(digests) if digest not in known]


def _take(order: list[str], groups: dict[str, list[int]], wanted: int) -> list[int]:
    taken: list[int] = []
    for digest in order:
        if len(taken) + len(groups[digest]) <= wanted:
            taken += groups[digest]
    if not taken:  # every group is larger than the share: the smallest one, rather than none
        taken = min((groups[digest] for digest in order), key=len)
    return taken
