"""One of two processes that compute the gradients of a tiny model together; started by `test_compute.py`.

Arguments: `replicated` or `sharded`, the folder of a saved base model, and the file for the gradients of rank 0.
"""

import sys

import torch
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM

from lora_trainer.model.attention import packed_inputs, use_packed_attention
from lora_trainer.model.fused import fuse_lora
from lora_trainer.model.output_layer import install_output_layer, token_losses
from lora_trainer.model.recompute import use_activation_checkpointing
from lora_trainer.model.sharding import shard
from unit.trainer.model.tiny import documents, packed, with_adapter

LENGTHS = ((11, 5), (7,), (9, 3), (6,))
"""Of the documents of four micro-batches."""


def build(folder, dtype):
    """Return the model as it is trained, with everything on that this folder's tests are about."""
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    assert use_packed_attention(base)
    model = with_adapter(base)
    assert fuse_lora(model)
    install_output_layer(model)
    use_activation_checkpointing(model)
    return model


def losses(model, place, *, learn=True):
    """Return the losses of a micro-batch: every second token, or none, as of a rank that has run out of rows."""
    batch = packed(documents(*LENGTHS[place], seed=place))
    where = torch.arange(0, sum(LENGTHS[place]) - 1, 2) if learn else torch.zeros(0, dtype=torch.long)
    return token_losses(model, packed_inputs(batch), where, batch.inputs["input_ids"][0, where + 1]).losses


def gradients_of(model):
    """Return the gradients of the adapter by name."""
    return {name: each.grad for name, each in model.named_parameters() if each.requires_grad}


def work(kind, folder, target):
    """Compute two micro-batches, of which rank 1 learns nothing from its second."""
    torch.distributed.init_process_group("gloo")
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    model = build(folder, torch.float32)
    wrapped = model
    if kind == "sharded":
        shard(model, "cpu")
    else:
        wrapped = DistributedDataParallel(model)
    for step in range(2):
        (losses(wrapped, 2 * step + rank, learn=(step, rank) != (1, 1)).sum() * size).backward()
    found = {
        name: each.full_tensor() if isinstance(each, DTensor) else each for name, each in gradients_of(model).items()
    }
    if rank == 0:
        torch.save(found, target)
    torch.distributed.barrier()  # a rank that leaves early can leave the other one waiting for ever
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    work(*sys.argv[1:])
