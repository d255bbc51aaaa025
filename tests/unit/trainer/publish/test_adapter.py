"""The config and the weights of an adapter, as they are published."""

import json

import pytest
import torch

from lora_trainer.publish.adapter import convert, published_config
from lora_trainer.publish.publication import base_name

CONFIG = {
    "r": 4,
    "lora_alpha": 8,
    "use_rslora": False,
    "rank_pattern": {"q_proj": 2},
    "target_modules": {"v_proj", "q_proj"},
    "modules_to_save": ["score", "classifier", "score"],
    "base_model_name_or_path": "/scratch/bases/abc",
    "auto_mapping": {"parent_library": "x"},
    "inference_mode": False,
}
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


def published():
    return published_config(
        CONFIG, "hf://owner/name", "0123abc", [f"{LAYER}.lora_A.weight", "base_model.model.score.weight"]
    )


def test_the_base_is_named_by_what_engines_call_it_and_never_by_a_folder():
    assert (published()["base_model_name_or_path"], published()["revision"]) == ("owner/name", "0123abc")
    assert "/scratch" not in json.dumps(published())


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("hf://owner/name", "owner/name"),
        ("s3://models/base", "s3://models/base"),
        ("pvc://claim/base", "pvc://claim/base"),
    ],
)
def test_only_a_model_of_the_hub_has_a_short_name(uri, name):
    assert base_name(uri) == name


def test_sets_become_sorted_lists_and_only_saved_modules_are_named():
    assert published()["target_modules"] == ["q_proj", "v_proj"]
    assert published()["modules_to_save"] == ["score"]
    assert published()["inference_mode"] is True
    assert "auto_mapping" not in published()


@pytest.mark.parametrize("rooted", [False, True])
def test_a_converted_adapter_adds_what_was_learned_to_the_clean_base(rooted):
    """W - s B0 A0 + s B A equals W + s' B' A' of twice the rank."""
    generator = torch.Generator().manual_seed(0)
    a, a0 = (torch.randn(4, 16, generator=generator, dtype=torch.float64) for _ in range(2))
    b, b0 = (torch.randn(8, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    names = f"{LAYER}.lora_A.weight", f"{LAYER}.lora_B.weight"
    config, weights = convert(
        CONFIG | {"use_rslora": rooted}, dict(zip(names, (a, b), strict=True)), dict(zip(names, (a0, b0), strict=True))
    )
    power = 0.5 if rooted else 1.0
    before, after = 8 / 4**power, config["lora_alpha"] / config["r"] ** power
    torch.testing.assert_close(after * weights[names[1]] @ weights[names[0]], before * (b @ a - b0 @ a0))
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (8, 16, {"q_proj": 4})
