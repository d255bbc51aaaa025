"""The verdicts on a job's adapter are known before it is trained."""

import pytest

from lora_api.lorajob import LoRAJobSpec
from lora_api.servability import verdicts
from lora_trainer.publish.servability import expected_config
from support.specs import SMALLEST


def before_training(targets=("q_proj", "v_proj"), **blocks):
    """Return what is known of a job before it is trained."""
    spec = LoRAJobSpec.model_validate(SMALLEST | blocks)
    return {each.engine: each for each in verdicts(expected_config(spec, list(targets)))}


@pytest.mark.parametrize(
    ("blocks", "vllm", "sglang"),
    [
        ({}, True, True),
        ({"lora": {"rank": 16, "initialization": "Gaussian"}}, True, True),
        ({"lora": {"doRA": True}}, False, False),
        ({"lora": {"rsLoRA": True}}, True, False),
        ({"lora": {"rankPattern": {"q_proj": 8}}}, True, False),
        ({"lora": {"modulesToSave": ["embed_tokens"]}}, False, False),
        ({"lora": {"initialization": "PiSSA"}}, True, True),
        ({"task": "SequenceClassification"}, True, False),
        ({"task": "TokenClassification"}, False, False),
        ({"task": "Seq2SeqLM"}, False, False),
    ],
)
def test_what_is_not_served_is_known_before_the_training(blocks, vllm, sglang):
    found = before_training(**blocks)
    assert (found["vllm"].servable, found["sglang"].servable) == (vllm, sglang)


@pytest.mark.parametrize("start", ["PiSSA", "OLoRA"])
def test_a_converted_start_needs_twice_the_rank(start):
    found = before_training(lora={"rank": 16, "initialization": start})
    assert found["vllm"].message == "needs --max-lora-rank 32"
    assert "--max-lora-rank 32" in found["sglang"].message
    twice_256 = before_training(lora={"rank": 256, "initialization": start})
    assert twice_256["vllm"].message == "needs --max-lora-rank 512"


def test_experts_are_told_from_modules():
    found = before_training(targets=["q_proj", "v_proj", "experts.down_proj"])
    assert found["vllm"].message == "needs --enable-mixed-moe-lora-format for the experts"
    assert found["sglang"].message == "adapters of stacked experts are not served"
