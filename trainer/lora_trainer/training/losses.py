"""The loss of each task, as a sum over what is learned and the sums that metrics are made of.

A sum and a count, never a mean: whoever has them all divides once, so that the result does not depend on the size of
the micro-batches, on packing or on the number of devices. Nothing here knows of steps, ranks or reports.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from lora_api.lorajob import LoRAJobSpec
from lora_api.training import Objective, Preference, PreferenceLoss, Task
from lora_trainer.data.examples import IGNORED, LABELS, Examples, Int64
from lora_trainer.model.attention import packed_inputs
from lora_trainer.model.output_layer import token_losses
from lora_trainer.training.collate import Batch


@dataclass
class Sums:
    """What one micro-batch adds up to."""

    loss: torch.Tensor
    """Sum of the losses, float32, differentiable."""
    count: int
    """What the mean is over: learned tokens, rows or preference pairs."""
    measured: dict[str, torch.Tensor] = field(default_factory=dict)
    """Sums for metrics, by name; only where they were asked for."""


Loss = Callable[..., Sums]
"""`(model, batch, *, measure: bool = False) -> Sums`."""


def loss_of(spec: LoRAJobSpec, labels: list[str]) -> Loss:
    """Return the loss of a job's task. `labels` are the names of the classes."""
    if spec.objective is Objective.DPO:
        return PreferencePairs(spec.training.preference or Preference())
    if spec.task in (Task.SEQUENCE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION):
        return Classes(labels, entities=spec.task is Task.TOKEN_CLASSIFICATION)
    return next_tokens


def counts_of(spec: LoRAJobSpec, examples: Examples) -> Int64:
    """Return what each example adds to the count that the loss is a mean over: tokens, or one row or pair."""
    if spec.objective is Objective.DPO or spec.task is Task.SEQUENCE_CLASSIFICATION:
        return np.ones(len(examples), np.int64)
    if spec.task is not Task.CAUSAL_LM:
        return examples.learned
    labels = examples.columns[LABELS]
    first = labels.values[labels.offsets[:-1]]  # has no predecessor to be predicted from
    return examples.learned - (first != IGNORED)


def next_tokens(model: Any, batch: Batch, *, measure: bool = False) -> Sums:
    """Return the cross entropy of the learned tokens."""
    found = token_losses(model, _forward(batch), batch.where, batch.targets, predictions=measure)
    measured = {}
    if measure and found.hits is not None:
        missed = _by_document((~found.hits).float(), batch)
        measured = {"hits": found.hits.sum(), "exact": (missed == 0).sum(), "rows": torch.tensor(batch.rows)}
    return Sums(found.losses.sum(), len(batch.targets), measured)


class Classes:
    """Cross entropy over classes, of a row or of each token."""

    def __init__(self, labels: list[str], *, entities: bool) -> None:
        self._labels = labels
        self._entities = entities

    def __call__(self, model: Any, batch: Batch, *, measure: bool = False) -> Sums:
        """Return the sums; measured are the confusion matrix [class, predicted], and counts of entities."""
        logits = model(**batch.inputs).logits
        chosen = logits.reshape(-1, logits.shape[-1])[batch.where].float()
        loss = functional.cross_entropy(chosen, batch.targets, reduction="sum")
        if not measure:
            return Sums(loss, len(batch.targets))
        predicted = chosen.argmax(-1)
        size = len(self._labels)
        confusion = torch.bincount(batch.targets * size + predicted, minlength=size * size)
        measured = {"confusion": confusion.reshape(size, size)}
        if self._entities:
            measured |= self._entity_counts(batch, predicted)
        return Sums(loss, len(batch.targets), measured)

    def _entity_counts(self, batch: Batch, predicted: torch.Tensor) -> dict[str, torch.Tensor]:
        columns = zip(batch.documents.tolist(), batch.targets.tolist(), predicted.tolist(), strict=True)
        words: dict[int, tuple[list[str], list[str]]] = {}
        for document, target, guess in columns:
            true, found = words.setdefault(document, ([], []))
            true.append(self._labels[target])
            found.append(self._labels[guess])
        pairs = [(entities_of(true), entities_of(found)) for true, found in words.values()]
        counts = {
            "entityHits": sum(len(true & found) for true, found in pairs),
            "entities": sum(len(true) for true, _ in pairs),
            "entitiesFound": sum(len(found) for _, found in pairs),
        }
        return {name: torch.tensor(value) for name, value in counts.items()}


class PreferencePairs:
    """Direct preference optimisation. The reference is the same model with the adapter switched off.

    Losses as in Rafailov et al. 2023 (sigmoid), Azar et al. 2023 (IPO, on mean log probabilities) and Zhao et al. 2023
    (hinge).
    """

    def __init__(self, settings: Preference) -> None:
        self._beta, self._kind = settings.beta, settings.loss

    def __call__(self, model: Any, batch: Batch, *, measure: bool = False) -> Sums:
        """Return the sums over pairs; measured are pairs won and the sum of reward margins."""
        with torch.no_grad(), _unwrapped(model).disable_adapter():
            reference = self._log_probabilities(model, batch)
        gains = self._log_probabilities(model, batch) - reference
        pairs = batch.rows // 2
        margins = gains[:pairs] - gains[pairs:]
        measured = {}
        if measure:
            rewards = self._beta * margins.detach()
            measured = {"won": (rewards > 0).sum(), "margin": rewards.sum(), "pairs": torch.tensor(pairs)}
        return Sums(self._losses(margins).sum(), pairs, measured)

    def _log_probabilities(self, model: Any, batch: Batch) -> torch.Tensor:
        losses = token_losses(model, _forward(batch), batch.where, batch.targets).losses
        summed = -_by_document(losses, batch)
        if self._kind is not PreferenceLoss.IPO:
            return summed
        return summed / _by_document(torch.ones_like(losses), batch).clamp(min=1)

    def _losses(self, margins: torch.Tensor) -> torch.Tensor:
        if self._kind is PreferenceLoss.IPO:
            return (margins - 1 / (2 * self._beta)) ** 2
        if self._kind is PreferenceLoss.HINGE:
            return torch.relu(1 - self._beta * margins)
        return -functional.logsigmoid(self._beta * margins)


def entities_of(tags: list[str]) -> set[tuple[int, int, str]]:
    """Return the entities (first word, word after the last, type) of tags in the BIO scheme.

    A tag without B- or I- that is not O is an entity of one word. An I- that follows no entity of its type begins one.
    """
    found: set[tuple[int, int, str]] = set()
    start, kind = 0, ""
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-") if tag[:2] in ("B-", "I-") else ("", "", "" if tag == "O" else tag)
        if prefix == "I" and name == kind:
            continue
        if kind:
            found.add((start, place, kind))
        start, kind = place, name
    return found


def _forward(batch: Batch) -> dict[str, Any]:
    return packed_inputs(batch) if batch.packed else batch.inputs | {"use_cache": False}


def _by_document(values: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the sum of the values of each document, [rows]."""
    return torch.zeros(batch.rows, device=values.device).index_add(0, batch.documents, values)


def _unwrapped(model: Any) -> Any:
    return model.module if hasattr(model, "module") and not hasattr(model, "disable_adapter") else model
