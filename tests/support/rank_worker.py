"""One of several processes that train a tiny model together: `rank_worker.py OUT ddp|fsdp [stop-at STEP]`.

Started with torchrun's variables in the environment. The first rank writes what was learned to OUT.
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from lora_trainer.checkpoint.state import adapter_state
from lora_trainer.ranks import join_ranks
from lora_trainer.training.trainer import LoraTrainer
from support.tiny_training import losses_of, tiny_trainer


class KeepsGradients(LoraTrainer):
    """Remembers the gradients of the first step before they are clipped, whole."""

    gradients: dict[str, torch.Tensor] | None = None

    def _clip_grad_norm(self, model):
        if self.gradients is None:
            named = ((name, each.grad) for name, each in self.model.named_parameters() if each.requires_grad)
            self.gradients = {
                name: (grad.full_tensor() if isinstance(grad, DTensor) else grad).clone() for name, grad in named
            }
        return super()._clip_grad_norm(model)


def main() -> None:
    """Train and write down."""
    out, mode = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    trainer = tiny_trainer(
        Path(tempfile.mkdtemp()),
        micro_batch=2,
        packing="packed" in mode,
        steps=3,
        kind=KeepsGradients,
        sharded="fsdp" in mode,
    )
    trainer.run()
    weights = adapter_state(trainer.model.named_parameters())
    if join_ranks("cpu").first:
        sharded = any(isinstance(each, DTensor) for each in trainer.model.parameters())
        found = {"gradients": trainer.gradients, "weights": weights, "losses": losses_of(trainer), "sharded": sharded}
        torch.save(found, out)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # its threads would end a process that ends with an abort


if __name__ == "__main__":
    main()
