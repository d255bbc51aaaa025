"""What the agent refuses to load, by the tensors: adapters of two layers, each wrong in one thing."""

import pytest
import torch

from support.adapter_folder import (
    CONFIG,
    HEADS,
    RANK,
    SHAPES,
    WIDTH,
    accepted,
    factors,
    name_of,
    pod,
    refused,
    write_adapter,
)


@pytest.fixture
def folder(tmp_path):
    """Write an adapter, whole or with changed fields of its config or other tensors."""
    return lambda config=None, tensors=None: write_adapter(tmp_path, config, tensors)


# Names of tensors.

EXTRA = torch.zeros(4, 4)
ROOT = "base_model.model"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (f"{ROOT}._orig_mod.model.layers.0.mlp.up_proj.lora_A.weight", "has _orig_mod in its name"),
        (f"{ROOT}.model.layers.0._fsdp_wrapped_module.mlp.up_proj.lora_A.weight", "has _fsdp_wrapped_module"),
        (f"{ROOT}.module.model.layers.0.mlp.up_proj.lora_A.weight", "has module in its name"),
        (f"{ROOT}.model.layers.0.mlp.up_proj.lora_magnitude_vector", "belongs to DoRA"),
        (f"{ROOT}.lm_head.weight", "is a whole weight of the base; save with save_embedding_layers=False"),
        (f"{ROOT}.model.embed_tokens.weight", "is a whole weight of the base"),
        (f"{ROOT}.model.layers.0.mlp.up_proj.lora_A.default.weight", "is no LoRA factor that engines know"),
        (f"{ROOT}.model.layers.0.mlp.up_proj.lora_B.bias", "is no LoRA factor that engines know"),
        ("model.layers.0.mlp.up_proj.lora_A.weight", "is no LoRA factor that engines know"),
    ],
)
def test_a_tensor_that_no_engine_knows_is_named(folder, name, told):
    message = refused(folder(tensors=factors() | {name: EXTRA}), facts=pod(engine="static"))
    assert name in message
    assert told in message


def test_a_long_or_odd_name_is_shown_in_one_short_line(folder):
    message = refused(folder(tensors=factors() | {"a\n\x00" + "b" * 5000: EXTRA}))
    assert message.startswith("tensor a??bbb")


def test_half_a_pair(folder):
    tensors = factors()
    del tensors[name_of(1, "mlp.up_proj", "B")]
    message = refused(folder(tensors=tensors))
    assert f"tensor {name_of(1, 'mlp.up_proj', 'A')} is there without {name_of(1, 'mlp.up_proj', 'B')}" in message


def test_an_adapter_without_factors(folder):
    assert "has no LoRA factors" in refused(folder(tensors={}))


def test_a_head_that_the_config_says_is_saved_whole(folder):
    tensors = factors() | {f"{ROOT}.score.weight": torch.zeros(3, WIDTH)}
    accepted(folder({"modules_to_save": ["score"], "task_type": "SEQ_CLS"}, tensors))
    assert "score.weight is no LoRA factor" in refused(folder(tensors=tensors))


def test_embeddings_have_factors_of_their_own(folder):
    tensors = factors() | {
        f"{ROOT}.model.embed_tokens.lora_embedding_A": torch.zeros(RANK, 1000),
        f"{ROOT}.model.embed_tokens.lora_embedding_B": torch.zeros(WIDTH, RANK),
    }
    config = {"target_modules": [*CONFIG["target_modules"], "embed_tokens"]}
    accepted(folder(config, tensors))
    whole = tensors | {f"{ROOT}.model.embed_tokens.base_layer.weight": EXTRA}
    accepted(folder(config, whole), facts=pod(engine="vllm"))
    assert "is a whole weight of the base" in refused(folder(config, whole), facts=pod(engine="lorax"))


# Ranks, formats and targets.


def test_factors_of_different_ranks(folder):
    tensors = factors() | {name_of(0, "self_attn.q_proj", "B"): torch.zeros(WIDTH, 4)}
    message = refused(folder(tensors=tensors))
    assert f"tensor {name_of(0, 'self_attn.q_proj', 'A')} has rank 8 and its second factor 4" in message


def test_another_rank_than_the_config_says(folder):
    message = refused(folder(tensors=factors(rank=4)))
    assert "has rank 4, and adapter_config.json says 8" in message


Q_PROJ, K_PROJ = "self_attn.q_proj", "self_attn.k_proj"


def q_proj_of_rank_4():
    return factors() | factors(shapes={Q_PROJ: SHAPES[Q_PROJ]}, rank=4)


@pytest.mark.parametrize(
    "pattern",
    [
        {"q_proj": 4},
        {"layers.1.self_attn.q_proj": 4, "layers.0.self_attn.q_proj": 4},
        {r".*(q|x)_proj": 4},
        {"(.*a+)+$": 4},
    ],
)
def test_the_rank_pattern_is_heeded_and_its_expressions_are_not_carried_out(folder, pattern):
    accepted(folder({"rank_pattern": pattern}, q_proj_of_rank_4()))


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ({"k_proj": 4, "q_proj": 4}, f"{name_of(0, K_PROJ, 'A')} has rank 8, and adapter_config.json says 4"),
        ({"layers.0.self_attn.q_proj": 4}, f"{name_of(1, Q_PROJ, 'A')} has rank 4, and adapter_config.json says 8"),
        ({r".*\.q_proj": 2}, f"{name_of(0, Q_PROJ, 'A')} has rank 4, and adapter_config.json says 2 or 8"),
    ],
)
def test_another_rank_than_the_pattern_says(folder, pattern, told):
    assert told in refused(folder({"rank_pattern": pattern}, q_proj_of_rank_4()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.int8, torch.float8_e4m3fn])
def test_number_formats_that_are_not_served(folder, dtype):
    name = name_of(0, "mlp.down_proj", "A")
    message = refused(folder(tensors=factors() | {name: factors()[name].to(dtype)}))
    assert f"tensor {name} has the number format" in message


@pytest.mark.parametrize("shape", [(RANK,), (RANK, WIDTH, 3, 3), (RANK, 0)])
def test_a_factor_that_is_no_matrix(folder, shape):
    name = name_of(0, "self_attn.q_proj", "A")
    message = refused(folder(tensors=factors() | {name: torch.zeros(shape)}))
    assert f"tensor {name} has the shape {list(shape)} and is no matrix" in message


def test_a_module_that_is_no_target(folder):
    message = refused(folder({"target_modules": ["q_proj", "k_proj", "v_proj"]}))
    assert "mlp.down_proj.lora_A.weight is of no module in target_modules" in message


@pytest.mark.parametrize("targets", [r".*\.(q|k)_proj", ["self_attn.q_proj", "layers.0.mlp.up_proj", "up_proj"], None])
def test_targets_are_patterns_or_ends_of_paths_or_not_given(folder, targets):
    shapes = {name: SHAPES[name] for name in ("self_attn.q_proj", "mlp.up_proj")}
    accepted(folder({"target_modules": targets}, factors(shapes=shapes)))


def experts(layer, rank=RANK, count=4):
    path = f"{ROOT}.model.layers.{layer}.mlp.experts"
    return {
        f"{path}.base_layer.lora_A.weight": torch.zeros(rank * count, WIDTH),
        f"{path}.base_layer.lora_B.weight": torch.zeros(2 * 64, rank * count),
        f"{path}.lora_A.weight": torch.zeros(rank * count, 64),
        f"{path}.lora_B.weight": torch.zeros(WIDTH, rank * count),
    }


def test_stacked_experts_have_the_rank_times_their_number(folder):
    config = {"target_parameters": ["experts.down_proj", "experts.gate_up_proj"]}
    accepted(folder(config, factors() | experts(0) | experts(1)))
    assert "has rank 12, and adapter_config.json says 8" in refused(folder(config, factors() | experts(0, rank=3)))
    assert "is of no module in target_parameters" in refused(folder(tensors=factors() | experts(0)))


# Shapes.


@pytest.mark.parametrize("module", ["self_attn.q_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.down_proj"])
@pytest.mark.parametrize("layer", [0, 1])
def test_a_factor_that_lost_columns_or_rows(folder, module, layer):
    for factor, part in (("A", (slice(None), slice(100))), ("B", slice(100))):
        name = name_of(layer, module, factor)
        cut = factors()[name][part].clone()
        message = refused(folder(tensors=factors() | {name: cut}))
        assert f"tensor {name} has 100 {'columns' if factor == 'A' else 'rows'}, where others of the model" in message


def test_an_adapter_cut_to_a_part_of_its_columns(folder):
    tensors = {
        name: each[:, :100].clone() if name.endswith("lora_A.weight") else each for name, each in factors().items()
    }
    message = refused(folder(tensors=tensors))
    assert f"{name_of(0, 'mlp.down_proj', 'B')} has 576 rows, where others of the model have 100" in message


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_one_kind_of_module_cut_in_all_layers(folder, layers):
    tensors = factors(layers)
    for layer in range(layers):
        name = name_of(layer, "self_attn.k_proj", "A")
        tensors[name] = tensors[name][:, :100].clone()
    assert f"{name_of(0, 'self_attn.k_proj', 'A')} has 100 columns" in refused(folder(tensors=tensors))


def test_two_modules_of_which_one_is_cut(folder):
    shapes = {"self_attn.q_proj": (WIDTH, WIDTH), "self_attn.v_proj": (100, HEADS)}
    assert "v_proj.lora_A.weight has 100 columns" in refused(folder(tensors=factors(shapes=shapes)))


def merged(*parts):
    return {name: tensor for part in parts for name, tensor in part.items()}


def at(prefix, tensors):
    return {name.replace("model.model.", f"model.{prefix}", 1): tensor for name, tensor in tensors.items()}


WIDER = {"self_attn.q_proj": (WIDTH, 2 * WIDTH), "self_attn.o_proj": (2 * WIDTH, WIDTH)}


@pytest.mark.parametrize(
    "tensors",
    [
        # Some layers have larger heads than others, as every sixth of some families.
        factors(12)
        | {
            name: tensor for name, tensor in factors(12, WIDER).items() if ".layers.5." in name or ".layers.11." in name
        },
        # Two stacks of different width, as a model that sees has them.
        merged(
            at("model.language_model.", factors()),
            at("model.vision_tower.", factors(shapes={"self_attn.q_proj": (64, 64), "self_attn.o_proj": (64, 64)})),
        ),
        # Experts of a width of their own.
        factors()
        | factors(shapes={f"mlp.experts.{n}.{name}": (96, 96) for n in range(3) for name in ("up_proj", "down_proj")}),
        # Not all layers have an adapter.
        {name: tensor for name, tensor in factors(6).items() if ".layers.2." in name or ".layers.4." in name},
    ],
    ids=["heads", "stacks", "experts", "some layers"],
)
def test_models_whose_layers_rightly_differ(folder, tensors):
    accepted(folder(tensors=tensors))


def test_the_matrices_of_an_expert_meet(folder):
    shapes = {f"mlp.experts.{n}.{name}": (96, 96) for n in range(3) for name in ("gate_proj", "up_proj", "down_proj")}
    for place in range(3):  # in all experts alike, so that none is alone
        shapes[f"mlp.experts.{place}.up_proj"] = (50, 96)
    assert "experts.0.up_proj.lora_A.weight has 50 columns" in refused(
        folder(tensors=factors() | factors(shapes=shapes))
    )
