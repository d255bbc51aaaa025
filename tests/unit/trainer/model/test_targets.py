"""Targets by PEFT's rules, from the names and shapes of the weights alone."""

import pytest

from lora_api.exit_codes import ExitCode
from lora_api.training import Lora
from lora_trainer.errors import TrainerError
from lora_trainer.model.targets import linear_layers, ranks, resolve_targets, saved_whole, trainable_parameters

WEIGHTS = {
    "model.embed_tokens.weight": (100, 8),
    "model.layers.0.self_attn.q_proj.weight": (8, 8),
    "model.layers.0.self_attn.q_proj.bias": (8,),
    "model.layers.0.mlp.up_proj.weight": (24, 8),
    "model.layers.1.self_attn.q_proj.weight": (8, 8),
    "model.layers.1.mlp.up_proj.weight": (24, 8),
    "model.layers.1.mlp.gate.weight": (4, 8),
    "model.norm.weight": (8,),
    "lm_head.weight": (100, 8),
}
LAYERS = linear_layers(WEIGHTS)


def test_linear_layers_are_neither_embeddings_nor_the_output_nor_routers():
    assert sorted(LAYERS) == [
        "model.layers.0.mlp.up_proj",
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.mlp.up_proj",
        "model.layers.1.self_attn.q_proj",
    ]


def test_all_linear_becomes_an_explicit_sorted_list():
    assert resolve_targets(Lora(), LAYERS) == ["q_proj", "up_proj"]


def test_parameters_follow_from_rank_and_shape():
    layer_ranks = ranks(Lora(rank=4), ["q_proj", "up_proj"], LAYERS)
    assert trainable_parameters(layer_ranks, LAYERS) == 2 * 4 * (8 + 8) + 2 * 4 * (24 + 8)


def test_rank_pattern_gives_single_modules_another_rank():
    lora = Lora(rank=4, rank_pattern={"up_proj": 2, "layers.1.self_attn.q_proj": 8})
    assert ranks(lora, ["q_proj", "up_proj"], LAYERS) == {
        "model.layers.0.self_attn.q_proj": 4,
        "model.layers.0.mlp.up_proj": 2,
        "model.layers.1.self_attn.q_proj": 8,
        "model.layers.1.mlp.up_proj": 2,
    }


@pytest.mark.parametrize("name", ["query", "embed_tokens", "lm_head", "proj"])
def test_an_unknown_target_is_refused_with_the_names_there_are(name):
    with pytest.raises(TrainerError) as caught:
        resolve_targets(Lora(target_modules=["q_proj", name]), LAYERS)
    assert caught.value.exit_code == ExitCode.INVALID_REQUEST
    assert f"spec.lora.targetModules: {name} is no linear layer" in caught.value.message
    assert caught.value.hint == "use some of q_proj, up_proj"


def test_a_rank_pattern_that_fits_nothing_is_refused():
    with pytest.raises(TrainerError, match=r"spec\.lora\.rankPattern: up_proj is no linear layer"):
        ranks(Lora(rank_pattern={"up_proj": 2}), ["q_proj"], LAYERS)


EXPERTS = {
    f"model.layers.0.mlp.experts.{number}.{name}.weight": shape
    for number in range(4)
    for name, shape in {"gate_proj": (24, 8), "up_proj": (24, 8), "down_proj": (8, 24)}.items()
}


@pytest.mark.parametrize(
    "weights",
    [
        EXPERTS,
        {name.replace("gate_proj", "w1").replace("up_proj", "w3").replace("down_proj", "w2"): shape
         for name, shape in EXPERTS.items()},
        {"model.layers.0.mlp.experts.gate_up_proj": (4, 48, 8), "model.layers.0.mlp.experts.down_proj": (4, 8, 24)},
    ],
    ids=["single", "mixtral", "stacked"],
)  # fmt: skip
def test_experts_are_stacked_parameters_however_they_are_stored(weights):
    layers = linear_layers(weights)
    assert layers == {
        "model.layers.0.mlp.experts.gate_up_proj": (4 * 48, 4 * 8),
        "model.layers.0.mlp.experts.down_proj": (4 * 8, 4 * 24),
    }
    assert resolve_targets(Lora(), layers) == ["experts.down_proj", "experts.gate_up_proj"]


def test_heads_of_other_tasks_are_no_layers():
    weights = {
        "bert.encoder.layer.0.attention.self.query.weight": (8, 8),
        "cls.predictions.transform.dense.weight": (8, 8),
        "classifier.weight": (2, 8),
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (32, 4),
    }
    assert list(linear_layers(weights)) == ["bert.encoder.layer.0.attention.self.query"]


def test_dora_adds_one_weight_an_output():
    layer_ranks = ranks(Lora(rank=4), ["up_proj"], LAYERS)
    plain = trainable_parameters(layer_ranks, LAYERS)
    assert trainable_parameters(layer_ranks, LAYERS, magnitudes=True) == plain + 2 * 24


def test_a_module_to_save_must_be_there():
    assert saved_whole(["embed_tokens"], WEIGHTS) == ["model.embed_tokens.weight"]
    with pytest.raises(TrainerError, match=r"spec\.lora\.modulesToSave: head is no module"):
        saved_whole(["head"], WEIGHTS)
