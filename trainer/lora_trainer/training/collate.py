"""From examples to tensors: rows end to end (packed) or side by side (padded).

Both layouts carry the same `where` and `targets`: the flat positions whose next token is learned, and that token. The
losses read only these, so they do not know the layout. All is found here, on the CPU, as finding it on a GPU would make
the training wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from lora_trainer.data.examples import CHOSEN, IGNORED, INPUT_IDS, LABELS, REJECTED, TARGET_IDS, Example, Int32, Int64
from lora_trainer.tasks import TaskRules


@dataclass
class Batch:
    """One micro-batch."""

    inputs: dict[str, torch.Tensor]
    """What the model's forward is given."""
    where: torch.Tensor
    """int64 [n]: positions, in the flattened output, that predict something learned."""
    targets: torch.Tensor
    """int64 [n]: what they should predict: tokens, or classes."""
    documents: torch.Tensor
    """int64 [n]: which of the micro-batch's documents each of them belongs to."""
    rows: int
    """Number of documents; of preference pairs, the chosen ones come first and the rejected ones after them."""
    tokens: int
    """Tokens without padding."""
    packed: bool = False
    extra: dict[str, int] = field(default_factory=dict)

    def to(self, device: torch.device) -> "Batch":
        """Return the micro-batch on a device."""
        if device.type == "cpu":
            return self
        inputs = {name: _move(value, device) for name, value in self.inputs.items()}
        where, targets, documents = (_move(each, device) for each in (self.where, self.targets, self.documents))
        return Batch(inputs, where, targets, documents, self.rows, self.tokens, self.packed, self.extra)


class Collator:
    """Makes micro-batches for one task."""

    def __init__(self, rules: TaskRules, *, pad_id: int, packed: bool, decoder_start_id: int | None = None) -> None:
        self._pad_id, self._packed, self._start_id = pad_id, packed, decoder_start_id
        self._classes = rules.peft_task == "SEQ_CLS"
        self._shift = rules.peft_task == "CAUSAL_LM"

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Return the micro-batch of some examples."""
        if self._start_id is not None and TARGET_IDS in examples[0]:
            return self._source_and_target(examples)
        documents = _documents(examples)
        ids, labels = zip(*documents, strict=True)
        if self._packed:
            return self._end_to_end(ids, labels)
        return self._side_by_side(ids, labels)

    def _end_to_end(self, ids: Sequence[Int32], labels: Sequence[Int32]) -> Batch:
        lengths = np.asarray([len(each) for each in ids], np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        flat = np.concatenate(labels)
        # The first token of a document has no predecessor within it; its label belongs to no position.
        flat[starts[:-1]] = IGNORED
        learned = np.flatnonzero(flat != IGNORED)
        positions = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
        inputs = {
            "input_ids": torch.from_numpy(np.concatenate(ids).astype(np.int64))[None],
            "position_ids": torch.from_numpy(positions)[None],
            "cu_seq_lens": torch.from_numpy(starts.astype(np.int32)),
        }
        documents = np.repeat(np.arange(len(ids)), lengths)[learned]
        batch = self._batch(inputs, learned - 1, flat[learned], documents, lengths)
        batch.packed, batch.extra = True, {"max_length": int(lengths.max())}
        return batch

    def _side_by_side(self, ids: Sequence[Int32], labels: Sequence[Int32]) -> Batch:
        lengths = np.asarray([len(each) for each in ids], np.int64)
        inputs = self._padded_inputs(ids, lengths)
        if self._classes:
            rows = np.arange(len(ids))
            return self._batch(inputs, rows, np.concatenate(labels), rows, lengths)
        padded = _padded(labels, lengths, IGNORED)
        if self._shift:
            padded[:, :-1], padded[:, -1] = padded[:, 1:].copy(), IGNORED
        flat = padded.reshape(-1)
        learned = np.flatnonzero(flat != IGNORED)
        return self._batch(inputs, learned, flat[learned], learned // padded.shape[1], lengths)

    def _source_and_target(self, examples: Sequence[Example]) -> Batch:
        sources, targets = ([each[name] for each in examples] for name in (INPUT_IDS, TARGET_IDS))
        lengths, target_lengths = (np.asarray([len(row) for row in side], np.int64) for side in (sources, targets))
        padded = _padded(targets, target_lengths, IGNORED)
        shifted = np.where(padded == IGNORED, self._pad_id, padded)
        shifted[:, 1:], shifted[:, 0] = shifted[:, :-1].copy(), self._start_id
        inputs = self._padded_inputs(sources, lengths) | {"decoder_input_ids": torch.from_numpy(shifted)}
        flat = padded.reshape(-1)
        learned = np.flatnonzero(flat != IGNORED)
        documents = learned // padded.shape[1]
        return self._batch(inputs, learned, flat[learned], documents, lengths + target_lengths)

    def _padded_inputs(self, ids: Sequence[Int32], lengths: Int64) -> dict[str, torch.Tensor]:
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        return {
            "input_ids": torch.from_numpy(_padded(ids, lengths, self._pad_id)),
            "attention_mask": torch.from_numpy(mask),
        }

    def _batch(
        self, inputs: dict[str, torch.Tensor], where: Int64, targets: Int32, documents: Int64, lengths: Int64
    ) -> Batch:
        return Batch(
            inputs,
            torch.from_numpy(np.ascontiguousarray(where, np.int64)),
            torch.from_numpy(np.asarray(targets, np.int64)),
            torch.from_numpy(np.asarray(documents, np.int64)),
            rows=len(lengths),
            tokens=int(lengths.sum()),
        )


def without_targets(batch: Batch) -> Batch:
    """Return a micro-batch that is computed and teaches nothing, for a rank that has run out of rows."""
    nothing = torch.zeros(0, dtype=torch.int64)
    return Batch(batch.inputs, nothing, nothing, nothing, 0, 0, batch.packed, batch.extra)


def _documents(examples: Sequence[Example]) -> list[tuple[Int32, Int32]]:
    """Return ids and labels of each document; of preference pairs, all chosen ones before all rejected ones."""
    sides = (CHOSEN, REJECTED) if CHOSEN + INPUT_IDS in examples[0] else ("",)
    return [(each[side + INPUT_IDS], each[side + LABELS]) for side in sides for each in examples]


def _padded(rows: Sequence[Int32], lengths: Int64, filler: int) -> Int64:
    padded = np.full((len(rows), int(lengths.max())), filler, np.int64)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded


def _move(value: torch.Tensor, device: torch.device) -> torch.Tensor:
    return value.pin_memory().to(device, non_blocking=True)
