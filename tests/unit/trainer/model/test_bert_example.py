"""The numbers of docs/bert-example.md, counted from the config of bert-base by the program itself."""

from functools import cache
from math import prod
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

from lora_api.lorajob import LoRAJobSpec
from lora_trainer.model.adapter import add_adapter
from lora_trainer.model.heads import mark_new
from lora_trainer.model.shape import adapter_shape
from lora_trainer.publish.size import Sizes
from support.specs import SMALLEST

PAGE = Path(__file__).parents[4] / "docs" / "bert-example.md"
CONFIG = BertConfig()  # its defaults are bert-base-uncased: 12 layers, hidden size 768, 30,522 tokens
LABELS = 2


def spec_of(rank):
    lora = {"rank": rank, "alpha": 16, "targetModules": ["query", "value"]}
    return LoRAJobSpec.model_validate(SMALLEST | {"task": "SequenceClassification", "lora": lora})


@cache
def weights():
    with torch.device("meta"):
        return {f"bert.{name}": tuple(value.shape) for name, value in BertModel(CONFIG).named_parameters()}


def sizes(rank):
    shape = adapter_shape(spec_of(rank), CONFIG.to_dict(), weights(), LABELS)
    base = sum(prod(each) for each in weights().values())
    return Sizes(parameters=base, trainable=shape.published, base_bytes_per_value=4)


def test_the_base_has_109_million_parameters():
    assert sizes(8).parameters == 109_482_240


@pytest.mark.parametrize(
    ("rank", "trainable"), [(1, 38_402), (4, 148_994), (8, 296_450), (16, 591_362), (64, 2_360_834)]
)
def test_rank_decides_what_is_trained(rank, trainable):
    assert sizes(rank).trainable == 12 * 2 * rank * (768 + 768) + 768 * LABELS + LABELS == trainable


def test_the_model_itself_has_as_many():
    with torch.device("meta"):  # shapes without values
        model = BertForSequenceClassification(BertConfig(num_labels=LABELS))
    mark_new(model, ["classifier.weight", "classifier.bias"])
    base = sum(value.numel() for value in model.bert.parameters())
    adapted = add_adapter(model, spec_of(8), seed=1)
    trained = sum(value.numel() for value in adapted.parameters() if value.requires_grad)
    assert (base, trained) == (sizes(8).parameters, sizes(8).trainable)


@pytest.mark.parametrize("rank", [1, 4, 8, 16, 64])
def test_the_page_says_what_the_program_counts(rank):
    found, page = sizes(rank), PAGE.read_text(encoding="utf-8")
    row = (
        f"| {rank} | {found.trainable:,} | {found.trainable_share:.3%} | {found.adapter:,} | "
        f"{found.full / found.adapter:,.0f} |"
    )
    assert row in page
    assert f"{found.parameters:,} weights" in page
    assert f"{found.full:,} bytes" in page
