"""Which modules a LoRA adapter changes, by PEFT's rules, from names and shapes alone.

Pure, so that the preflight can answer it from the headers of the weight files, and the training from the modules.
"""

import re
from collections.abc import Mapping

from lora_api.training import Lora
from lora_trainer.errors import TrainerError, invalid_request

ALL_LINEAR = "all-linear"
Shape = tuple[int, int]
_FIELD = "spec.lora.targetModules"
_OUTPUT_LAYERS = {"lm_head", "embed_out", "output_layer"}
_EMBEDDINGS = {"wte", "wpe", "shared"}


def linear_layers(weights: Mapping[str, tuple[int, ...]]) -> dict[str, Shape]:
    """Return the linear layers among named weights, by module path.

    `weights` maps names such as `model.layers.0.mlp.up_proj.weight` to shapes. Embeddings, the output layer, and the
    experts and routers of a mixture of experts, which are no linear modules in transformers, are left out.
    """
    layers = {}
    for name, shape in weights.items():
        path = name.removesuffix(".weight")
        leaf = path.rpartition(".")[2]
        other = leaf in _OUTPUT_LAYERS | _EMBEDDINGS or "embed" in leaf or ".experts." in path or leaf == "gate"
        if name.endswith(".weight") and len(shape) == 2 and not other:
            layers[path] = (shape[0], shape[1])
    return layers


def resolve_targets(lora: Lora, layers: Mapping[str, Shape]) -> list[str]:
    """Return the names of the targets, explicit and sorted: engines read the list, and none knows `all-linear`.

    Raises a `TrainerError` (64) for a name that no linear layer has.
    """
    if lora.target_modules == [ALL_LINEAR]:
        if not layers:
            raise invalid_request(f"{_FIELD}: the base model has no linear layers", "name its modules")
        return sorted({path.rpartition(".")[2] for path in layers})
    for name in lora.target_modules:
        if not any(_matches(path, name) for path in layers):
            raise _unknown(_FIELD, name, layers)
    return sorted(set(lora.target_modules))


def ranks(lora: Lora, targets: list[str], layers: Mapping[str, Shape]) -> dict[str, int]:
    """Return the rank of each changed layer, by module path.

    Raises a `TrainerError` (64) for a key of rankPattern that fits no changed layer.
    """
    chosen = [path for path in layers if any(_matches(path, name) for name in targets)]
    for pattern in lora.rank_pattern:
        if not any(_matches_pattern(path, pattern) for path in chosen):
            raise _unknown("spec.lora.rankPattern", pattern, {path: layers[path] for path in chosen})
    return {path: _rank(path, lora) for path in chosen}


def trainable_parameters(layer_ranks: Mapping[str, int], layers: Mapping[str, Shape]) -> int:
    """Return the number of weights in the adapter: rank * (inputs + outputs) for each layer."""
    return sum(rank * sum(layers[path]) for path, rank in layer_ranks.items())


def _rank(path: str, lora: Lora) -> int:
    fitting = (rank for pattern, rank in lora.rank_pattern.items() if _matches_pattern(path, pattern))
    return next(fitting, lora.rank)


def _matches(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _matches_pattern(path: str, pattern: str) -> bool:
    """Fit as PEFT's `get_pattern_key` does: a regular expression for the end of the path."""
    try:
        return re.match(rf"(.*\.)?({pattern})$", path) is not None
    except re.error:
        return False


def _unknown(field: str, name: str, layers: Mapping[str, Shape]) -> TrainerError:
    known = sorted({path.rpartition(".")[2] for path in layers})
    return invalid_request(
        f"{field}: {name} is no linear layer of the base model", f"use some of {', '.join(known[:16])}"
    )
