"""Starts of an adapter that move a part of the base weights into it: PiSSA and OLoRA.

Done here and not by PEFT, in float32 whatever the base is, so that the adapter holds exactly what the base lost: PEFT
rounds the factors to the base's format after it has subtracted the unrounded ones. The factors at the start are part of
the run's state. With them a resumed run takes the same part out of a clean base, and the published adapter, which adds
what was learned and subtracts them, fits the clean base.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor

from lora_api.training import Initialization
from lora_trainer.errors import internal

ADAPTER = "default"


def change_base(model: Any, start: Initialization, initial: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Move the factors of each layer from the base into the adapter, and return them by parameter name.

    `initial` are the factors of an earlier attempt, which are used again; None computes them from the clean base.
    """
    factors = {}
    for path, layer in _layers(model):
        first, second = f"{path}.lora_A.{ADAPTER}.weight", f"{path}.lora_B.{ADAPTER}.weight"
        if initial is None:
            pair = _principal(_weight(layer), layer.r[ADAPTER], layer.scaling[ADAPTER], start)
        elif first in initial and second in initial:
            pair = initial[first], initial[second]
        else:
            raise internal(f"the checkpoint lacks the initial factors of {path}", "start a new run")
        _move(layer, *pair)
        factors |= {first: pair[0].cpu().clone(), second: pair[1].cpu().clone()}
    return factors


def _layers(model: Any) -> Iterator[tuple[str, LoraLayer]]:
    return ((path, layer) for path, layer in model.named_modules() if isinstance(layer, LoraLayer))


def _weight(layer: Any) -> Tensor:
    """Return the weight in float32, outputs first; a Conv1D stores it the other way round."""
    weight: Tensor = layer.get_base_layer().weight.data.float()
    return weight.T if layer.fan_in_fan_out else weight


def _principal(weight: Tensor, rank: int, scaling: float, start: Initialization) -> tuple[Tensor, Tensor]:
    """Return the factors (rank x inputs) and (outputs x rank) that the adapter starts with.

    PiSSA: the largest singular values, shared evenly. OLoRA: the first columns of the orthogonal factor of QR.
    """
    if start is Initialization.OLORA:
        orthogonal, rest = torch.linalg.qr(weight)
        return rest[:rank].contiguous(), orthogonal[:, :rank].contiguous()
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    root = torch.sqrt(values[:rank] / scaling)
    return (root[:, None] * right[:rank]).contiguous(), (left[:, :rank] * root).contiguous()


@torch.no_grad()
def _move(layer: Any, first: Tensor, second: Tensor) -> None:
    base = layer.get_base_layer().weight
    first, second = first.to(base.device), second.to(base.device)
    rest = _weight(layer) - layer.scaling[ADAPTER] * (second @ first)
    base.data.copy_(rest.T if layer.fan_in_fan_out else rest)
    layer.lora_A[ADAPTER].weight.copy_(first)
    layer.lora_B[ADAPTER].weight.copy_(second)
