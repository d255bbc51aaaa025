"""Verdicts: what an engine refuses, and what it drops in silence."""

import pytest

from lora_api.lorajob import LoRAJobSpec
from lora_trainer.publish.servability import expected_config, verdicts
from support.specs import SMALLEST

PLAIN = {"r": 16, "target_modules": ["q_proj", "k_proj", "v_proj"], "bias": "none", "init_lora_weights": True}


def verdict(**changes):
    return {each.engine: each for each in verdicts(PLAIN | changes)}


def test_a_plain_adapter_is_served_by_both():
    assert all(each.servable for each in verdict().values())
    assert verdict()["vllm"].message == ""


@pytest.mark.parametrize(
    ("changes", "vllm", "sglang"),
    [
        ({"use_dora": True}, False, False),
        ({"bias": "all"}, False, False),
        ({"lora_bias": True}, False, False),
        ({"modules_to_save": ["score"]}, True, False),
        ({"modules_to_save": ["classifier"]}, True, False),
        ({"modules_to_save": ["embed_tokens"]}, False, False),
        ({"modules_to_save": ["bert.pooler.dense", "classifier"]}, False, False),
        ({"task_type": "SEQ_CLS", "modules_to_save": ["score"]}, True, False),
        ({"task_type": "TOKEN_CLS", "modules_to_save": ["score"]}, False, False),
        ({"task_type": "SEQ_2_SEQ_LM"}, False, False),
        ({"target_parameters": ["experts.down_proj"]}, True, False),
        ({"init_lora_weights": "pissa_niter_4"}, False, False),
        ({"init_lora_weights": "gaussian"}, True, True),
        ({"use_rslora": True}, True, False),
        ({"rank_pattern": {"q_proj": 8}}, True, False),
        ({"target_modules": ["q_proj"]}, True, False),
        ({"r": 1024}, False, True),
    ],
)
def test_what_is_not_served(changes, vllm, sglang):
    found = verdict(**changes)
    assert (found["vllm"].servable, found["sglang"].servable) == (vllm, sglang)
    assert all(each.message for each in found.values() if not each.servable)


@pytest.mark.parametrize(
    ("rank", "message"), [(16, ""), (17, "needs --max-lora-rank 32"), (64, "needs --max-lora-rank 64")]
)
def test_a_rank_above_the_default_names_the_flag(rank, message):
    assert verdict(r=rank)["vllm"].message == message


def test_the_highest_rank_of_the_pattern_counts():
    assert verdict(rank_pattern={"q_proj": 128})["vllm"].message == "needs --max-lora-rank 128"


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
