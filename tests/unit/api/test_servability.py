"""Verdicts: what an engine refuses, and what it drops in silence."""

import pytest
from pydantic import ValidationError

from lora_api.servability import ENGINES, AdapterConfig, verdicts, vllm_rank_limit

PLAIN = {"r": 16, "target_modules": ["q_proj", "k_proj", "v_proj"], "bias": "none", "init_lora_weights": True}


def verdict(**changes):
    return {each.engine: each for each in verdicts(PLAIN | changes)}


def served_by(**changes):
    return {engine for engine, each in verdict(**changes).items() if each.servable}


def test_a_plain_adapter_is_served_by_all():
    assert tuple(verdict()) == ENGINES == ("vllm", "sglang", "lorax", "tgi")
    assert served_by() == set(ENGINES)
    assert verdict()["vllm"].message == ""


ALL = set(ENGINES)
KERNELS = {"lorax", "tgi"}


@pytest.mark.parametrize(
    ("changes", "engines"),
    [
        ({"use_dora": True}, set()),
        ({"bias": "all"}, set()),
        ({"lora_bias": True}, set()),
        ({"modules_to_save": ["score"]}, {"vllm"}),
        ({"modules_to_save": ["classifier"]}, {"vllm"}),
        ({"modules_to_save": ["embed_tokens"]}, set()),
        ({"modules_to_save": ["bert.pooler.dense", "classifier"]}, set()),
        ({"task_type": "SEQ_CLS", "modules_to_save": ["score"]}, {"vllm"}),
        ({"task_type": "TOKEN_CLS", "modules_to_save": ["score"]}, set()),
        ({"task_type": "SEQ_2_SEQ_LM"}, set()),
        ({"target_parameters": ["experts.down_proj"]}, {"vllm"}),
        ({"init_lora_weights": "pissa_niter_4"}, set()),
        ({"init_lora_weights": "gaussian"}, ALL),
        ({"layer_replication": [[0, 4], [2, 5]]}, set()),
        ({"alora_invocation_tokens": [1, 2]}, set()),
        ({"trainable_token_indices": [5]}, set()),
        ({"use_qalora": True}, set()),
        ({"use_bdlora": {"nblocks": 2}}, set()),
        ({"use_rslora": True}, ALL - {"sglang"}),
        ({"rank_pattern": {"q_proj": 8}}, {"vllm"}),
        ({"alpha_pattern": {"q_proj": 8}}, {"vllm"}),
        ({"target_modules": ["q_proj"]}, ALL - {"sglang"}),
        ({"target_modules": r".*\.q_proj"}, ALL - {"sglang"}),
        ({"target_modules": "all-linear"}, ALL),
        ({"layers_to_transform": [0, 1]}, {"vllm", "sglang"}),
        ({"r": 1024}, {"sglang"}),
        ({"r": 4}, {"vllm", "sglang"}),
        ({"r": 24}, {"vllm", "sglang"}),
        ({"r": 256}, {"vllm", "sglang"}),
        ({"r": 8}, ALL),
    ],
)
def test_what_is_not_served(changes, engines):
    assert served_by(**changes) == engines
    assert all(each.message for each in verdict(**changes).values() if not each.servable)


@pytest.mark.parametrize(
    ("rank", "message"), [(16, ""), (17, "needs --max-lora-rank 32"), (64, "needs --max-lora-rank 64")]
)
def test_a_rank_above_the_default_names_the_flag(rank, message):
    assert verdict(r=rank)["vllm"].message == message


@pytest.mark.parametrize(("rank", "limit"), [(1, 1), (2, 8), (17, 32), (321, 512), (600, 600)])
def test_the_flag_has_values_of_a_fixed_set(rank, limit):
    assert vllm_rank_limit(rank) == limit


def test_the_highest_rank_of_the_pattern_counts():
    assert verdict(rank_pattern={"q_proj": 128})["vllm"].message == "needs --max-lora-rank 128"
    assert AdapterConfig.model_validate(PLAIN | {"rank_pattern": {"q_proj": 128}}).highest_rank == 128


def test_nothing_given_is_nothing_asked_for():
    nulls = dict.fromkeys(
        ["task_type", "rank_pattern", "alpha_pattern", "use_dora", "modules_to_save", "target_parameters", "lora_bias"]
    )
    assert served_by(**nulls) == set(ENGINES)
    assert {each.engine for each in verdicts({"r": 8}) if each.servable} == set(ENGINES)


def test_an_engine_without_adapters_of_experts_is_told_from_one_that_needs_a_flag():
    found = verdict(target_parameters=["experts.down_proj"])
    assert found["vllm"].message == "needs --enable-mixed-moe-lora-format for the experts"
    assert found["sglang"].message == "adapters of stacked experts are not served"


@pytest.mark.parametrize(
    "changes", [{"r": None}, {"r": "8"}, {"r": 0}, {"r": True}, {"rank_pattern": [1]}, {"rank_pattern": {"q": -1}}]
)
def test_what_peft_never_writes_is_an_error(changes):
    with pytest.raises(ValidationError):
        verdicts(PLAIN | changes)
