"""Activation checkpointing: layers keep only their input, and compute the rest again in the backward pass."""

from peft import PeftModel


def use_activation_checkpointing(model: PeftModel, every: int = 1) -> None:
    """Let every so many layers of the base recompute their activations while training.

    Not reentrant: adapters get gradients although the embeddings are frozen, and hooks of FSDP2 run once.
    """
    base = model.get_base_model()
    base.activation_checkpointing_enable({"use_reentrant": False}, every_n_layers=every)
    # The call above makes the embeddings' output require gradients, which only the reentrant kind needs.
    base.disable_input_require_grads()
