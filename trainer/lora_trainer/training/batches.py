"""Which rows a step learns from, and how they are divided into micro-batches.

Pure arithmetic on lengths. A step is a function of seed and number alone, so a training that goes on from a checkpoint
needs no other position than the step. How the rows of a step are divided changes neither loss nor gradient, only time
and memory; so a smaller micro-batch after an out-of-memory keeps the order of the data.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lora_trainer.data.examples import Int64


@dataclass
class RowOrder:
    """The rows of each step: every epoch a new permutation, cut into batches of the effective size."""

    rows: int
    effective_batch: int
    seed: int
    _epoch: int = field(default=-1, init=False)
    _order: Int64 = field(default_factory=lambda: np.zeros(0, np.int64), init=False)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one pass; the last one takes what is left."""
        return -(-self.rows // self.effective_batch)

    def of_step(self, step: int) -> Int64:
        """Return the rows of a step (from 0)."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
            self._epoch = epoch
        start = place * self.effective_batch
        return self._order[start : start + self.effective_batch]

    def epochs_after(self, steps: int) -> float:
        """Return how many passes are finished after so many steps."""
        epoch, place = divmod(steps, self.steps_per_epoch)
        return epoch + min(place * self.effective_batch, self.rows) / self.rows


def shares(rows: Int64, lengths: Int64, world_size: int) -> list[Int64]:
    """Divide rows over ranks so that each has about the same tokens: the longest ones first, back and forth."""
    if world_size == 1:
        return [rows]
    order = rows[np.argsort(-lengths[rows], kind="stable")]
    rank = np.arange(len(order)) % (2 * world_size)
    rank = np.minimum(rank, 2 * world_size - 1 - rank)
    return [order[rank == each] for each in range(world_size)]


def micro_batches(rows: Int64, lengths: Int64, budget: int, *, packed: bool) -> list[Int64]:
    """Divide rows into micro-batches of at most `budget` tokens, a longer row alone.

    Packed, the tokens are the sum of the lengths; padded, the longest row times the number of rows, which is why
    rows of similar length go together.
    """
    order = rows[np.argsort(-lengths[rows], kind="stable")]
    return _packed(order, lengths, budget) if packed else _padded(order, lengths, budget)


def micro_batches_of_ranks(
    rows: Int64, lengths: Int64, budget: int, world_size: int, *, packed: bool
) -> list[list[Int64]]:
    """Return the micro-batches of each rank. All have equally many, as sharded weights need; some may be empty."""
    divided = [
        micro_batches(share, lengths, budget, packed=packed) if len(share) else []
        for share in shares(rows, lengths, world_size)
    ]
    most = max(len(each) for each in divided)
    nothing = np.zeros(0, np.int64)
    return [each + [nothing] * (most - len(each)) for each in divided]


def _padded(order: Int64, lengths: Int64, budget: int) -> list[Int64]:
    batches, start = [], 0
    while start < len(order):
        size = max(1, budget // int(lengths[order[start]]))
        batches.append(order[start : start + size])
        start += size
    return batches


def _packed(order: Int64, lengths: Int64, budget: int) -> list[Int64]:
    """First fit, the longest rows first: at most 11/9 of the fewest possible micro-batches."""
    contents: list[list[int]] = []
    room: list[int] = []
    for row in order:
        length = int(lengths[row])
        place = _first_with(room, length)
        if place is None:
            contents.append([int(row)])
            room.append(budget - length)
        else:
            contents[place].append(int(row))
            room[place] -= length
    return [np.asarray(each, np.int64) for each in contents]


def _first_with(room: Sequence[int], length: int) -> int | None:
    return next((place for place, free in enumerate(room) if free >= length), None)
