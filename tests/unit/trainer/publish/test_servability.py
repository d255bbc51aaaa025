"""Verdicts: what an engine refuses, and what it drops in silence."""

import pytest

from lora_trainer.publish.servability import verdicts

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
        ({"modules_to_save": ["score"]}, False, False),
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
