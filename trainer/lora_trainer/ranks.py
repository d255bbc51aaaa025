"""The processes that train together: who this one is, and what they agree on.

One process is the ordinary case and pays for nothing: no group is made, nothing is sent.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    """Where tensors must lie to be sent."""

    @property
    def first(self) -> bool:
        """Whether this process speaks for all: it logs, uploads and publishes."""
        return self.rank == 0

    def add(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the sums over all ranks, in one message. The values have the same shapes on every rank."""
        if self.size == 1:
            return list(values)
        flat = torch.cat([each.reshape(-1).double() for each in values]).to(self.device)
        distributed.all_reduce(flat)
        parts = torch.split(flat, [each.numel() for each in values])
        return [part.reshape(each.shape) for part, each in zip(parts, values, strict=True)]

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is set on some rank, in one message."""
        if self.size == 1:
            return list(flags)
        return [bool(value > 0) for value in self.add([torch.tensor(float(flag)) for flag in flags])]


def own_device(device: torch.device) -> torch.device:
    """Return the GPU of this process among those of its node, and make it the one that libraries take unasked."""
    if device.type != "cuda":
        return device
    mine = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(mine)
    return mine


def join_ranks(device_type: str, stall_timeout_seconds: int = 1800) -> Ranks:
    """Return what the launcher says in the environment, after meeting the others.

    A collective may wait for longer than nothing may get on: the watchdog is to be first, because it knows more.
    """
    ranks = Ranks(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")), device_type)
    if ranks.size > 1 and not distributed.is_initialized():
        timeout = timedelta(seconds=2 * stall_timeout_seconds)
        distributed.init_process_group("nccl" if device_type == "cuda" else "gloo", timeout=timeout)
    return ranks
