"""A base model that no single device holds: each rank keeps a part of every layer, and borrows the rest (FSDP2).

Whole layers are gathered just before they compute and dropped after. Only how weights are kept changes, not what is
computed; gradients of the adapter are averaged over the ranks as they are without it.
"""

from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from lora_trainer.errors import internal


def shard(model: Any, device_type: str) -> None:
    """Divide the weights of a model with an adapter over all ranks, layer by layer, and move the parts to the devices.

    Raises 70 for a model that does not tell its layers apart.
    """
    names = set(getattr(model.get_base_model(), "_no_split_modules", None) or [])
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise internal(
            f"{type(model.get_base_model()).__name__} names no layers to divide",
            "set spec.training.distribution: Replicated",
        )
    mesh = init_device_mesh(device_type, (torch.distributed.get_world_size(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    # What transformers' Trainer asks before it wraps a model: this one has its devices and its gradients in hand.
    model.is_distributed_loading_by_transformers = True
