"""What has a GGUF form is decided before the training; the order of rows is llama.cpp's."""

import numpy as np
import pytest

from lora_api.exit_codes import ExitCode
from lora_api.lorajob import LoRAJobSpec
from lora_trainer.errors import TrainerError
from lora_trainer.publish.forms import check_forms
from lora_trainer.publish.gguf import interleave
from support.specs import SMALLEST

LLAMA = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4}
LAYERS = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"]
OUTPUT = {"uri": "s3://adapters", "formats": ["GGUF"]}


def spec_of(**blocks):
    return LoRAJobSpec.model_validate(SMALLEST | {"output": OUTPUT} | blocks)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"])
def test_known_families_have_a_gguf_form(family):
    check_forms(spec_of(), LLAMA | {"model_type": family}, LAYERS)


@pytest.mark.parametrize(
    ("blocks", "config", "layers", "why"),
    [
        ({"task": "SequenceClassification"}, {}, LAYERS, "the task is SequenceClassification"),
        ({}, {"model_type": "gpt2"}, LAYERS, "the layout of gpt2 is not known here"),
        ({}, {"model_type": "qwen3_moe"}, LAYERS, "the layout of qwen3_moe is not known here"),
        ({"lora": {"doRA": True}}, {}, LAYERS, "llama.cpp has no DoRA"),
        ({"lora": {"modulesToSave": ["embed_tokens"]}}, {}, LAYERS, "cannot hold modules that are saved whole"),
        ({}, {}, ["model.language_model.layers.0.foo"], "no name for model.language_model.layers.0.foo"),
    ],
)
def test_others_are_refused_with_the_reason_and_the_fix(blocks, config, layers, why):
    with pytest.raises(TrainerError) as caught:
        check_forms(spec_of(**blocks), LLAMA | config, layers)
    assert caught.value.exit_code == ExitCode.INVALID_REQUEST
    assert caught.value.message.startswith("spec.output.formats: GGUF: ")
    assert why in caught.value.message
    assert caught.value.hint


def test_without_the_format_nothing_is_refused():
    check_forms(spec_of(output={"uri": "s3://adapters", "formats": ["Merged"]}), {"model_type": "gpt2"}, LAYERS)


def test_rows_that_turn_together_lie_side_by_side():
    rows = np.arange(8)[:, None]  # two heads of four rows, which turn as (0, 2) (1, 3) and (4, 6) (5, 7)
    assert interleave(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
