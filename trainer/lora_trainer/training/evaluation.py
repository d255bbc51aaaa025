"""Evaluation: losses and metrics as means over a whole set.

Sums are added up over micro-batches and ranks and divided once, so the result is the same for every size of batch,
with and without packing, on any number of devices. The parent's evaluation averages means, and is not.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from lora_trainer.data.examples import Examples
from lora_trainer.ranks import Ranks
from lora_trainer.training.batches import micro_batches_of_ranks
from lora_trainer.training.collate import Batch, Collator, without_targets
from lora_trainer.training.losses import Loss


class Totals(NamedTuple):
    """Sums over a set."""

    loss: float
    count: int
    sums: dict[str, Any]


class EvaluationSet:
    """A set of examples, laid out once."""

    def __init__(self, examples: Examples, collator: Collator, budget: int, ranks: Ranks, *, packed: bool) -> None:
        self._examples, self._collator = examples, collator
        self._budget, self._ranks, self._packed = budget, ranks, packed

    def __len__(self) -> int:
        return len(self._examples)

    def batches(self) -> Iterator[Batch]:
        """Yield the micro-batches of this rank; all ranks yield equally many."""
        rows = np.arange(len(self._examples))
        divided = micro_batches_of_ranks(
            rows, self._examples.lengths, self._budget, self._ranks.size, packed=self._packed
        )
        for each in divided[self._ranks.rank]:
            yield collate_or_nothing(self._collator, self._examples, each)


def collate_or_nothing(collator: Collator, examples: Examples, rows: Any) -> Batch:
    """Return the micro-batch of some rows; of no rows, one that is computed and teaches nothing."""
    if len(rows):
        return collator([examples[int(row)] for row in rows])
    shortest = int(np.argmin(examples.lengths))
    return without_targets(collator([examples[shortest]]))


def add_up(
    model: torch.nn.Module, batches: Iterator[Batch], loss: Loss, ranks: Ranks, alive: Callable[[], None]
) -> Totals:
    """Return the sums over all micro-batches of all ranks. `alive` is called before each; it may raise."""
    device = next(model.parameters()).device
    total, count, sums = torch.zeros((), dtype=torch.float64, device=device), 0, {}
    for batch in batches:
        alive()
        with torch.no_grad():
            found = loss(model, batch.to(device), measure=True)
        total += found.loss.double()
        count += found.count
        for name, value in found.measured.items():
            sums[name] = sums.get(name, 0) + value.double()
    counted = torch.tensor(float(count), dtype=torch.float64, device=device)
    total, counted, *values = ranks.add([total, counted, *sums.values()])
    return Totals(
        float(total), int(counted), {name: each.cpu().numpy() for name, each in zip(sums, values, strict=True)}
    )
