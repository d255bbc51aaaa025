"""Expected peak memory of one device, term by term, and the time that a training should take.

Pure arithmetic on the config of the base model, so that it is known before any device is asked for. The terms name
what they count, so that a measured peak can be held against each. They err upwards: a job that is sent away although it
would have fitted is cheaper than one that runs out of memory at night.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_api.messages import MemoryEstimate, Plan
from lora_api.training import Quantization

LOGITS_CHUNK = 1024
"""Positions whose logits are in memory at once; `output_layer.CHUNK`, which this module cannot import without torch."""
_ADAPTER_BYTES = 4 + 4 + 8
"""Of a trainable parameter in float32: weight, gradient, two moments of Adam."""
_LIBRARIES = 512 << 20
"""What the context of a device, or the libraries of a CPU process, take."""
_QUANTIZED_BITS = {
    (4, False): 4.5,  # a float32 scale for 64 weights
    (4, True): 4.127,  # scales of 8 bits, with scales of their own
    (8, False): 8.0,
    (8, True): 8.0,
}
_ENDS = 4
"""Values a width that are kept besides the layers: of the last norm, and of the learned positions."""
_BIAS_TABLES = 5
_NORMS_ON_BOTH_SIDES = ("gemma2", "gemma3", "gemma4", "glm4", "olmo2", "olmo3")
_NORMS_OF_QUERIES = ("gemma3", "gemma4", "olmo2", "olmo3", "qwen3")
_GELU_IN_STEPS = ("gelu_new", "gelu_fast", "gelu_python", "gelu_accurate")
"""Activations that are written as several operations, each of which keeps its input."""
_LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")

# Dense peak rates in bfloat16 (float16 where there is none), FLOP/s, as the makers state them. The first name that the
# device's contains counts, so longer names come first.
_PEAK_RATES = (
    ("gb200", 2.5e15),
    ("b200", 2.25e15),
    ("gh200", 989e12),
    ("h200", 989e12),
    ("h100-pcie", 756e12),
    ("h100-nvl", 835e12),
    ("h100", 989e12),
    ("h20", 148e12),
    ("a100", 312e12),
    ("a800", 312e12),
    ("a10g", 70e12),
    ("a10", 125e12),
    ("a30", 165e12),
    ("a40", 150e12),
    ("l40s", 362e12),
    ("l40", 181e12),
    ("l4", 121e12),
    ("rtx-a6000", 155e12),
    ("4090", 165e12),
    ("3090", 71e12),
    ("v100", 125e12),
    ("t4", 65e12),
    ("mi300x", 1307e12),
)
_REACHED_SHARE = 0.35
_FLOPS_A_PARAMETER = 4
"""Two forwards, two backwards to the activations; frozen weights need no gradients."""


def estimate_memory(
    config: Mapping[str, Any],
    parameters: int,
    trainable: int,
    plan: Plan,
    bytes_per_value: int,
    *,
    quantization: Quantization | None = None,
    sequences: int = 1,
    devices: int = 1,
) -> MemoryEstimate:
    """Return the estimate for a plan.

    `bytes_per_value` is 2 for bfloat16 and 4 for float32. `sequences` is how many of maxLength a row may have: a
    preference pair has 2. `devices` share the weights if the plan is sharded.
    """
    text = config.get("text_config") or config
    tokens = plan.micro_batch_size * sequences * plan.max_length
    layers = _layers_of(text)
    weights = _weight_bytes(text, parameters, bytes_per_value, quantization) // (devices if plan.sharded else 1)
    adapter = trainable * _ADAPTER_BYTES
    bias = _bias_bytes(text, plan, bytes_per_value)
    activations = bias + tokens * bytes_per_value * _values_kept(layers, recomputed=plan.activation_checkpointing)
    logits = _logits_bytes(text, tokens, bytes_per_value)
    gathers = plan.sharded or quantization is not None
    values = trainable + tokens * _values_at_work(layers, recomputed=plan.activation_checkpointing)
    values += 2 * max(each.weights for each in layers) if gathers else 0  # whole again, to be computed with
    working = _LIBRARIES + values * bytes_per_value
    return MemoryEstimate(
        total=weights + adapter + activations + logits + working,
        weights=weights,
        adapter=adapter,
        activations=activations,
        logits=logits,
        working=working,
    )


def estimated_seconds(
    tokens: int, parameters: int, *, throughput: float | None = None, device: str | None = None, devices: int = 1
) -> int | None:
    """Return how long a training over `tokens` takes, or None where that is not known.

    `throughput` is measured, in tokens a second of all devices. Else it follows from the `device`'s name, such as
    `NVIDIA-H100-80GB-HBM3`, at a share of its peak rate that a tuned trainer reaches.
    """
    if throughput is None:
        rate = peak_rate(device) if device else None
        if rate is None:
            return None
        throughput = _REACHED_SHARE * rate * devices / (_FLOPS_A_PARAMETER * parameters)
    return max(1, round(tokens / throughput))


def peak_rate(device: str) -> float | None:
    """Return the peak rate of a device by its name, FLOP/s, or None for one that is not known."""
    name = "-".join(device.lower().replace("_", "-").split())
    parts = name.split("-")
    return next((rate for known, rate in _PEAK_RATES if known in parts or ("-" in known and known in name)), None)


def memory_of(device: str) -> int | None:
    """Return the memory of a device in bytes by its name, such as `NVIDIA-A100-SXM4-40GB`, or None if it tells none."""
    said = re.search(r"(\d+)GB", device, re.IGNORECASE)
    return int(said[1]) << 30 if said else None


@dataclass(frozen=True)
class _Layer:
    """One layer of a model, in values."""

    width: int
    """Of a token between layers."""
    values: int
    """Kept of a token for the backward pass."""
    inner: int
    """Of a token at the widest place: in the feed-forward network."""
    weights: int


def _values_kept(layers: Sequence[_Layer], *, recomputed: bool) -> int:
    """Return the values of a token that wait for the backward pass."""
    return sum(each.width if recomputed else each.values for each in layers) + _ENDS * layers[-1].width


def _values_at_work(layers: Sequence[_Layer], *, recomputed: bool) -> int:
    """Return the values of a token in the layer that is computed: gradients at its widest place, and all it keeps."""
    return 2 * max(each.inner for each in layers) + (max(each.values for each in layers) if recomputed else 0)


def _layers_of(config: Mapping[str, Any]) -> list[_Layer]:
    encoder = _number(config, "num_hidden_layers", "n_layer", "num_layers", "encoder_layers", "n_layers")
    layers = [_layer(config, "encoder_ffn_dim")] * encoder
    if config.get("is_encoder_decoder"):
        decoder = _number(config, "num_decoder_layers", "decoder_layers", default=encoder)
        layers += [_layer(config, "decoder_ffn_dim", cross=True)] * decoder
    return layers or [_layer(config)]


def _layer(config: Mapping[str, Any], *more_inner: str, cross: bool = False) -> _Layer:
    """Return the size of a layer.

    Of width h are the norms, each of which keeps its input in float32 (2h) and gives the input of the next matrices
    (h); of the heads' width q, query and attention output (2q); of the keys', keys and values (2k); of the inner width
    f, the input and output of the activation, and in gated networks the other factor and the product (2f or 4f).
    """
    width = _number(config, "hidden_size", "n_embd", "d_model", "dim")
    heads = _number(config, "num_attention_heads", "n_head", "num_heads", "encoder_attention_heads", "n_heads") or 1
    size = _number(config, "head_dim", "d_kv", default=width // heads)
    queries, keys = heads * size, _number(config, "num_key_value_heads", default=heads) * size
    inner = _inner(config, width, *more_inner)
    kind = str(config.get("model_type", ""))
    norms = 3 * width + (2 * width if kind.startswith(_NORMS_ON_BOTH_SIDES) else 0)
    attention = norms + 2 * (queries + keys) * (2 if kind.startswith(_NORMS_OF_QUERIES) else 1)
    activation = 2 if _activation(config) not in _GELU_IN_STEPS else 5
    values = attention * (2 if cross else 1) + norms + inner * (activation + (2 if _is_gated(config) else 0))
    weights = 2 * width * (queries + keys) * (2 if cross else 1) + width * inner * (3 if _is_gated(config) else 2)
    return _Layer(width, values, inner, weights)


def _inner(config: Mapping[str, Any], width: int, *more: str) -> int:
    """Return the inner width that a token passes through: of experts, those that it is sent to."""
    experts = _number(config, "num_experts_per_tok", "num_experts_per_token", "moe_topk")
    dense = _number(config, "intermediate_size", "n_inner", "d_ff", "ffn_dim", "hidden_dim", *more, default=4 * width)
    if not experts:
        return dense
    shared = _number(config, "shared_expert_intermediate_size")
    shared += _number(config, "n_shared_experts") * _number(config, "moe_intermediate_size")
    return experts * _number(config, "moe_intermediate_size", default=dense) + shared


def _is_gated(config: Mapping[str, Any]) -> bool:
    """Whether the feed-forward network has three matrices. Where the config does not say, the larger answer."""
    if "feed_forward_proj" in config:
        return str(config["feed_forward_proj"]).startswith("gated")
    return "num_key_value_heads" in config


def _activation(config: Mapping[str, Any]) -> str:
    names = ("hidden_act", "hidden_activation", "activation_function", "dense_act_fn")
    return next((str(config[name]) for name in names if config.get(name)), "")


def _bias_bytes(config: Mapping[str, Any], plan: Plan, bytes_per_value: int) -> int:
    """Return what learned biases of attention by distance take, as T5 has them: tables of length by length."""
    if "relative_attention_num_buckets" not in config:
        return 0
    return _BIAS_TABLES * _number(config, "num_heads") * plan.max_length**2 * bytes_per_value


def _weight_bytes(
    config: Mapping[str, Any], parameters: int, bytes_per_value: int, quantization: Quantization | None
) -> int:
    if quantization is None:
        return parameters * bytes_per_value
    width = _number(config, "hidden_size", "n_embd", "d_model", "dim")
    tables = 1 if config.get("tie_word_embeddings", False) else 2
    plain = min(parameters, tables * _number(config, "vocab_size") * width)
    bits = _QUANTIZED_BITS[quantization.bits, quantization.double_quantization]
    return plain * bytes_per_value + round((parameters - plain) * bits / 8)


def _logits_bytes(config: Mapping[str, Any], tokens: int, bytes_per_value: int) -> int:
    """Return the bytes of a chunk's logits: as computed, in float32, and their gradient. Encoders have none."""
    names = config.get("architectures") or _LANGUAGE_MODELS
    if not str(names[0]).endswith(_LANGUAGE_MODELS):
        return 0
    return min(tokens, LOGITS_CHUNK) * _number(config, "vocab_size") * (bytes_per_value + 4 + bytes_per_value)


def _number(config: Mapping[str, Any], *names: str, default: int = 0) -> int:
    for name in names:
        if isinstance(config.get(name), int) and not isinstance(config[name], bool):
            return int(config[name])
    return default
