"""Activation checkpointing: the same gradients, fewer values kept."""

import pytest
import torch

from lora_trainer.model.attention import packed_inputs, use_packed_attention
from lora_trainer.model.fused import fuse_lora
from lora_trainer.model.recompute import use_activation_checkpointing
from unit.trainer.model.tiny import documents, gradients, packed, relative, tiny_model, with_adapter


def kept_values(model, inputs):
    """Return the gradients, and how many values the forward pass kept that are no weights."""
    weights = {each.untyped_storage().data_ptr() for each in model.parameters()}
    sizes: dict[int, int] = {}

    def keep(tensor):
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            sizes[place] = tensor.untyped_storage().size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(**inputs).logits.square().mean()
    loss.backward()
    return gradients(model), sum(sizes.values())


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_gradients_are_equal_and_the_frozen_embeddings_stop_none(family):
    base = tiny_model(family)
    assert use_packed_attention(base)
    model = with_adapter(base)
    fuse_lora(model)
    inputs = packed_inputs(packed(documents(40, 7, 23)))
    expected, all_values = kept_values(model, inputs)
    half, half_values = kept_values(checkpointed(model, every=2), inputs)
    found, values = kept_values(checkpointed(model), inputs)
    assert relative(found, expected) < 1e-6
    assert relative(half, expected) < 1e-6
    assert all(each.requires_grad is False for each in model.get_input_embeddings().parameters())
    assert found.count_nonzero() == expected.count_nonzero() > 0
    assert values < half_values < all_values


def checkpointed(model, **options):
    use_activation_checkpointing(model, **options)
    return model
