"""Both layouts say the same: which position predicts which token."""

import numpy as np
import pytest

from lora_api.lorajob import LoRAJobSpec
from lora_trainer.data.examples import IGNORED, examples_of
from lora_trainer.tasks import rules_of
from lora_trainer.training.collate import Collator, without_targets
from support.specs import SMALLEST

CHAT = [
    {"input_ids": [11, 12, 13, 14], "labels": [IGNORED, IGNORED, 13, 14]},
    {"input_ids": [21, 22], "labels": [21, 22]},
]


def collator(task="CausalLM", objective="SFT", *, packed=False, start=None):
    spec = LoRAJobSpec.model_validate(SMALLEST | {"task": task, "objective": objective})
    return Collator(rules_of(spec), pad_id=0, packed=packed, decoder_start_id=start)


def predictions(batch):
    """Return (document, token before, token to predict) of each learned position."""
    before = batch.inputs["input_ids"].flatten()[batch.where].tolist()
    return list(zip(batch.documents.tolist(), before, batch.targets.tolist(), strict=True))


@pytest.mark.parametrize("packed", [False, True])
def test_a_token_is_predicted_by_the_one_before_it_in_its_own_document(packed):
    examples = examples_of(CHAT)
    batch = collator(packed=packed)([examples[0], examples[1]])
    assert predictions(batch) == [(0, 12, 13), (0, 13, 14), (1, 21, 22)]
    assert (batch.rows, batch.tokens) == (2, 6)


def test_packed_rows_lie_end_to_end_and_each_counts_its_positions_from_zero():
    examples = examples_of(CHAT)
    batch = collator(packed=True)([examples[0], examples[1]])
    assert batch.inputs["input_ids"].tolist() == [[11, 12, 13, 14, 21, 22]]
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1]]
    assert batch.inputs["cu_seq_lens"].tolist() == [0, 4, 6]


def test_padded_rows_have_a_mask():
    examples = examples_of(CHAT)
    batch = collator()([examples[1], examples[0]])
    assert batch.inputs["input_ids"].tolist() == [[21, 22, 0, 0], [11, 12, 13, 14]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize("packed", [False, True])
def test_of_preference_pairs_the_chosen_come_before_the_rejected(packed):
    pairs = examples_of(
        [
            {
                "chosen_input_ids": [1, 2, 3],
                "chosen_labels": [IGNORED, 2, 3],
                "rejected_input_ids": [1, 4],
                "rejected_labels": [IGNORED, 4],
            },
            {
                "chosen_input_ids": [5, 6],
                "chosen_labels": [IGNORED, 6],
                "rejected_input_ids": [5, 7, 8],
                "rejected_labels": [IGNORED, 7, 8],
            },
        ]
    )
    batch = collator(objective="DPO", packed=packed)([pairs[0], pairs[1]])
    assert predictions(batch) == [(0, 1, 2), (0, 2, 3), (1, 5, 6), (2, 1, 4), (3, 5, 7), (3, 7, 8)]
    assert batch.rows == 4


def test_a_target_is_predicted_from_the_tokens_before_it():
    examples = examples_of([{"input_ids": [1, 2, 3], "target_ids": [7, 8]}, {"input_ids": [4], "target_ids": [9]}])
    batch = collator("Seq2SeqLM", start=5)([examples[0], examples[1]])
    assert batch.inputs["decoder_input_ids"].tolist() == [[5, 7], [5, 9]]  # what follows a target counts for nothing
    assert list(zip(batch.where.tolist(), batch.targets.tolist(), strict=True)) == [(0, 7), (1, 8), (2, 9)]
    assert batch.tokens == 7


def test_a_class_is_predicted_for_the_row():
    examples = examples_of([{"input_ids": [1, 2], "labels": [1]}, {"input_ids": [3], "labels": [0]}])
    batch = collator("SequenceClassification")([examples[0], examples[1]])
    assert (batch.where.tolist(), batch.targets.tolist()) == ([0, 1], [1, 0])


def test_a_tag_is_predicted_at_its_own_token():
    examples = examples_of([{"input_ids": [1, 2, 3], "labels": [IGNORED, 2, 1]}, {"input_ids": [4], "labels": [0]}])
    batch = collator("TokenClassification")([examples[0], examples[1]])
    assert list(zip(batch.where.tolist(), batch.targets.tolist(), strict=True)) == [(1, 2), (2, 1), (3, 0)]


def test_a_micro_batch_without_targets_is_computed_and_teaches_nothing():
    examples = examples_of(CHAT)
    batch = without_targets(collator(packed=True)([examples[1]]))
    assert np.prod(batch.inputs["input_ids"].shape) == 2
    assert (len(batch.where), batch.rows, batch.tokens) == (0, 0, 0)
