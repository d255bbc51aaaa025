"""Which modules a LoRA adapter changes, by PEFT's rules, from names and shapes alone.

Pure, so that the preflight can answer it from the headers of the weight files, and the training from the modules.
"""

import re
from collections.abc import Iterable, Mapping

from lora_api.training import Lora
from lora_trainer.errors import TrainerError, invalid_request

ALL_LINEAR = "all-linear"
Shape = tuple[int, int]
"""Outputs and inputs of a layer; their sum is what one rank of an adapter costs, so the order may differ."""
_FIELD = "spec.lora.targetModules"
_OUTPUT_LAYERS = {"lm_head", "embed_out", "output_layer"}
_EMBEDDINGS = {"wte", "wpe", "shared", "relative_attention_bias"}
_ROUTERS = {"gate"}
"""Of a mixture of experts; a matrix, and no module that an adapter can change."""
_HEADS = {"cls", "lm_head", "score", "classifier", "classification_head", "pre_classifier", "qa_outputs"}
"""First names of the weights that another task left in the file; no task of ours keeps them."""
_EXPERT = re.compile(r"^(?P<stack>.*\.experts)\.(?P<number>\d+)\.(?P<leaf>\w+)\.weight$")
_FUSED = {"gate_proj": "gate_up_proj", "up_proj": "gate_up_proj", "w1": "gate_up_proj", "w3": "gate_up_proj"} | {
    "w2": "down_proj"
}


def linear_layers(weights: Mapping[str, tuple[int, ...]]) -> dict[str, Shape]:
    """Return the layers that an adapter can change among named weights, by module path.

    `weights` maps names such as `model.layers.0.mlp.up_proj.weight` to shapes. Embeddings, output layers and heads are
    left out. Experts of a mixture appear as the stacked parameters that transformers makes of them, such as
    `model.layers.0.mlp.experts.gate_up_proj`, with the sizes of all experts added up.
    """
    layers = {}
    for name, shape in weights.items():
        path = name.removesuffix(".weight")
        if name.endswith(".weight") and len(shape) == 2 and not _is_no_layer(path):
            layers[path] = (shape[0], shape[1])
    return layers | _experts(weights)


def is_embedding(weight: str) -> bool:
    """Whether a weight is that of an embedding, by its name."""
    leaf = weight.removesuffix(".weight").rpartition(".")[2]
    return leaf in _EMBEDDINGS or "embed" in leaf


def is_experts(path: str) -> bool:
    """Whether a path names the stacked weights of experts, which are a parameter and no module."""
    return path.rpartition(".")[0].rpartition(".")[2] == "experts"


def stacked(shape: tuple[int, ...]) -> Shape:
    """Return the shape of experts (count, rows, columns) as that of one layer: each has matrices of its own."""
    return shape[0] * shape[1], shape[0] * shape[2]


def resolve_targets(lora: Lora, layers: Mapping[str, Shape]) -> list[str]:
    """Return the names of the targets, explicit and sorted: engines read the list, and none knows `all-linear`.

    Experts are named with their module, such as `experts.down_proj`. Raises a `TrainerError` (64) for a name that no
    linear layer has.
    """
    if lora.target_modules == [ALL_LINEAR]:
        if not layers:
            raise invalid_request(f"{_FIELD}: the base model has no linear layers", "name its modules")
        return sorted({short_name(path) for path in layers})
    for name in lora.target_modules:
        if not any(matches(path, name) for path in layers):
            raise _unknown(_FIELD, name, layers)
    return sorted(set(lora.target_modules))


def changed_layers(targets: Iterable[str], layers: Iterable[str]) -> list[str]:
    """Return the paths that the targets name."""
    names = list(targets)
    return [path for path in layers if any(matches(path, name) for name in names)]


def ranks(lora: Lora, targets: list[str], layers: Mapping[str, Shape]) -> dict[str, int]:
    """Return the rank of each changed layer, by module path.

    Raises a `TrainerError` (64) for a key of rankPattern that fits no changed layer.
    """
    chosen = changed_layers(targets, layers)
    for pattern in lora.rank_pattern:
        if not any(_matches_pattern(path, pattern) for path in chosen):
            raise _unknown("spec.lora.rankPattern", pattern, {path: layers[path] for path in chosen})
    return {path: _rank(path, lora) for path in chosen}


def trainable_parameters(
    layer_ranks: Mapping[str, int], layers: Mapping[str, Shape], *, magnitudes: bool = False
) -> int:
    """Return the number of weights in the adapter: rank * (inputs + outputs) for each layer.

    `magnitudes` adds those of DoRA, one an output, for which the shapes must have the outputs first.
    """
    factors = sum(rank * sum(layers[path]) for path, rank in layer_ranks.items())
    return factors + (sum(layers[path][0] for path in layer_ranks) if magnitudes else 0)


def saved_whole(names: Iterable[str], weights: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return the weights of the modules in modulesToSave.

    Raises a `TrainerError` (64) for a name that no module has.
    """
    found = []
    for name in names:
        of_module = [weight for weight in weights if matches(weight.rpartition(".")[0], name)]
        if not of_module:
            raise invalid_request(
                f"spec.lora.modulesToSave: {name} is no module with weights of the base model",
                "name a module such as embed_tokens; the head of a classification is saved without being named",
            )
        found += of_module
    return found


def short_name(path: str) -> str:
    """Return the last name of a path, with the one before it for experts."""
    parts = path.split(".")
    return ".".join(parts[-2:] if is_experts(path) else parts[-1:])


def matches(path: str, name: str) -> bool:
    """Whether a target names a path: the whole of it, or its end."""
    return path == name or path.endswith(f".{name}")


def _is_no_layer(path: str) -> bool:
    first, leaf = path.partition(".")[0], path.rpartition(".")[2]
    return leaf in _OUTPUT_LAYERS | _ROUTERS or first in _HEADS or is_embedding(path) or ".experts." in path


def _experts(weights: Mapping[str, tuple[int, ...]]) -> dict[str, Shape]:
    """Return the stacked experts: as they are stored, or made of one matrix an expert."""
    layers: dict[str, Shape] = {}
    rows: dict[str, int] = {}
    columns: dict[str, int] = {}
    for name, shape in weights.items():
        single = _EXPERT.match(name)
        if is_experts(name) and len(shape) == 3:
            layers[name] = stacked(shape)
        elif single and len(shape) == 2:
            leaf = single["leaf"]
            path = f"{single['stack']}.{_FUSED.get(leaf, leaf)}"
            rows[path] = rows.get(path, 0) + shape[0]
            # Gate and up lie one below the other and share their inputs, which are counted once.
            columns[path] = columns.get(path, 0) + (0 if leaf in ("up_proj", "w3") else shape[1])
    return layers | {path: (rows[path], columns[path]) for path in rows}


def _rank(path: str, lora: Lora) -> int:
    fitting = (rank for pattern, rank in lora.rank_pattern.items() if _matches_pattern(path, pattern))
    return next(fitting, lora.rank)


def _matches_pattern(path: str, pattern: str) -> bool:
    """Fit as PEFT's `get_pattern_key` does: a regular expression for the end of the path."""
    try:
        return re.match(rf"(.*\.)?({pattern})$", path) is not None
    except re.error:
        return False


def _unknown(field: str, name: str, layers: Mapping[str, Shape]) -> TrainerError:
    known = sorted({short_name(path) for path in layers})
    return invalid_request(
        f"{field}: {name} is no linear layer of the base model", f"use some of {', '.join(known[:16])}"
    )
