"""Settings of an adapter that do not go together, or not with this base model.

Pure, so that the preflight refuses what would fail after a GPU was given. Each refusal says what to write instead.
"""

from collections.abc import Mapping

from lora_api.lorajob import LoRAJobSpec
from lora_api.training import Initialization
from lora_trainer.errors import TrainerError, invalid_request
from lora_trainer.model.targets import Shape, is_experts

CHANGING = (Initialization.PISSA, Initialization.OLORA)
"""Initializations that move a part of the base weights into the adapter."""
_FREE = (Initialization.KAIMING, Initialization.GAUSSIAN)
"""Those that do not look at the base weights."""


def check_options(spec: LoRAJobSpec, layer_ranks: Mapping[str, int], layers: Mapping[str, Shape]) -> None:
    """Raise a `TrainerError` (64) for settings that cannot be trained on these layers.

    `layer_ranks` are the ranks of the changed layers by path, `layers` the shapes of all layers.
    """
    start = spec.lora.initialization
    if spec.quantization is not None and start not in _FREE:
        raise _initialization(start, "does not work on a quantized base", "Kaiming or Gaussian")
    if start in CHANGING:
        _check_rank_fits(start, layer_ranks, layers)
    if start is Initialization.ORTHOGONAL:
        _check_even_ranks(layer_ranks)
    if any(is_experts(path) for path in layer_ranks):
        _check_experts(spec)


def _check_rank_fits(start: Initialization, layer_ranks: Mapping[str, int], layers: Mapping[str, Shape]) -> None:
    for path, rank in layer_ranks.items():
        if rank > min(layers[path]):
            raise invalid_request(
                f"spec.lora.rank: {rank} with {start.value} is more than {path} has, {min(layers[path])}",
                f"use at most {min(layers[path])} for it, by spec.lora.rankPattern",
            )


def _check_even_ranks(layer_ranks: Mapping[str, int]) -> None:
    odd = [rank for rank in layer_ranks.values() if rank % 2]
    if odd:
        raise invalid_request(f"spec.lora.rank: {odd[0]} is odd, and Orthogonal needs an even one", "use an even rank")


def _check_experts(spec: LoRAJobSpec) -> None:
    """Refuse what the factors of stacked experts cannot do: they are added to the weight before it is used."""
    lora = spec.lora
    if lora.dropout > 0:
        raise invalid_request(f"spec.lora.dropout: {lora.dropout} does not work on experts", _without("0"))
    if lora.do_ra:
        raise invalid_request("spec.lora.doRA: it does not work on experts", _without("false"))
    if lora.initialization not in _FREE:
        raise _initialization(lora.initialization, "does not work on experts", "Kaiming or Gaussian")


def _initialization(start: Initialization, why: str, instead: str) -> TrainerError:
    return invalid_request(f"spec.lora.initialization: {start.value} {why}", f"use {instead}")


def _without(value: str) -> str:
    return f"use {value}, or name spec.lora.targetModules without the experts"
