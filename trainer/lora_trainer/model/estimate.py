"""Expected peak memory of one device, term by term.

Pure arithmetic on the config of the base model. An upper estimate without activation checkpointing: the terms name
what they count, so that a measured peak can be held against each.
"""

from collections.abc import Mapping
from typing import Any

from lora_api.messages import MemoryEstimate, Plan

_ADAPTER_BYTES = 4 + 4 + 8
"""Of a trainable parameter in float32: weight, gradient, two moments of Adam."""


def estimate_memory(
    config: Mapping[str, Any], parameters: int, trainable: int, plan: Plan, bytes_per_value: int
) -> MemoryEstimate:
    """Return the estimate for a plan. `bytes_per_value` is 2 for bfloat16 and 4 for float32."""
    tokens = plan.micro_batch_size * plan.max_length
    weights = parameters * bytes_per_value
    adapter = trainable * _ADAPTER_BYTES
    activations = tokens * _layer_values(config) * bytes_per_value * _number(config, "num_hidden_layers", "n_layer")
    # Logits of every token, in the worst case that all are learned: as computed, in float32, and their gradient.
    logits = tokens * _number(config, "vocab_size") * (bytes_per_value + 4 + 4)
    total = weights + adapter + activations + logits
    return MemoryEstimate(total=total, weights=weights, adapter=adapter, activations=activations, logits=logits)


def _layer_values(config: Mapping[str, Any]) -> int:
    """Return the values that one decoder layer keeps for the backward pass, of one token.

    Of width h: two norms (input and output), input of q/k/v, query, attention output, output projection and two
    residual sums, 8h; keys and values, 2kv; of width f: gate, up, their activation and product, 4f.
    """
    hidden = _number(config, "hidden_size", "n_embd")
    heads = _number(config, "num_attention_heads", "n_head", default=1)
    key_value_heads = _number(config, "num_key_value_heads", default=heads)
    inner = _number(config, "intermediate_size", "n_inner", default=4 * hidden)
    return 8 * hidden + 2 * hidden * key_value_heads // max(heads, 1) + 4 * inner


def _number(config: Mapping[str, Any], *names: str, default: int = 0) -> int:
    for name in names:
        if isinstance(config.get(name), int):
            return int(config[name])
    return default
