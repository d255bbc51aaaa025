"""Whether the tensors of an adapter are what its config promises, and fit each other.

Engines check the names in part and the shapes hardly at all: an adapter with a part of its columns loads, and answers
garbage. The base is not at hand here, so shapes are held against each other: every layer of a decoder reads and writes
the same width, and the matrices of one module meet in the same number. Widths that may differ from layer to layer, such
as those of heads, are only compared where a single layer stands alone.
Pure; names and shapes come from `safetensors_header`.
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from lora_agent.safetensors_header import TensorEntry, shown
from lora_api.servability import VLLM, AdapterConfig

_T = TypeVar("_T")
_ROOT = "base_model.model."
_NAME = re.compile(rf"{re.escape(_ROOT)}(?P<module>.+)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_embedding_[AB])")
_WRAPPERS = ("_fsdp_wrapped_module", "_orig_mod", "_checkpoint_wrapped_module")
_DATA_PARALLEL = "module"
"""Wraps the whole model, and is a usual name further down."""
_EMBEDDINGS = ("embed_tokens", "lm_head", "wte", "wpe", "word_embeddings", "embed_out", "output_layer")
_IGNORED_BY_VLLM = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")
_DTYPES = ("F32", "F16", "BF16")
_NUMBER = re.compile(r"(?<![^.])[0-9]+(?![^.])")
_READERS = {"q_proj", "k_proj", "v_proj", "qkv_proj", "gate_proj", "up_proj", "gate_up_proj", "c_attn", "c_fc"}
"""Layers whose inputs have the width of the model."""
_WRITERS = {"o_proj", "down_proj", "c_proj"}
"""Layers whose outputs have it."""
_DAMAGED = "the file is damaged or belongs to two models: publish the adapter again"


@dataclass(frozen=True, slots=True)
class _Layer:
    """The two factors of one adapted module."""

    module: str
    """Path in the base model."""
    names: tuple[str, str]
    first: TensorEntry
    """Rank x inputs; of an embedding, rank x tokens."""
    second: TensorEntry
    """Outputs x rank."""

    @property
    def leaf(self) -> str:
        return self.module.rpartition(".")[2]

    @property
    def parent(self) -> str:
        return self.module.rpartition(".")[0]

    @property
    def stacked(self) -> bool:
        """Whether these are the factors of all experts of a layer, one beside the other."""
        return self.module.removesuffix(".base_layer").rpartition(".")[2] == "experts"

    @property
    def is_embedding(self) -> bool:
        return self.names[0].endswith("lora_embedding_A")

    @property
    def inputs(self) -> int:
        return self.first.shape[1]

    @property
    def outputs(self) -> int:
        return self.second.shape[0]


def tensor_fault(tensors: Mapping[str, TensorEntry], config: AdapterConfig, engine: str) -> str | None:
    """Return the first thing that is wrong with an adapter's tensors, in one sentence, or None.

    `engine` is the kind of engine that is to load them, by its name in `lora_api.servability` or another one.
    """
    factors = {name: each for name, each in tensors.items() if not _is_left_out(name, config, engine)}
    fault = _first(_name_fault, factors) or _pair_fault(factors)
    if fault:
        return fault
    layers = _layers(factors)
    checks: tuple[Callable[[], str | None], ...] = (
        lambda: _first(lambda name: _dtype_fault(name, factors[name]), factors),
        lambda: _first(lambda each: _rank_fault(each, config), layers),
        lambda: _first(lambda each: _target_fault(each, config), layers),
        lambda: _shape_fault([each for each in layers if not each.stacked and not each.is_embedding]),
    )
    return _first(lambda check: check(), checks)


def _first(check: Callable[[_T], str | None], values: Iterable[_T]) -> str | None:
    return next((fault for each in values if (fault := check(each))), None)


# Names.


def _is_left_out(name: str, config: AdapterConfig, engine: str) -> bool:
    """Whether a tensor is not a factor, and none is expected: a module that is saved whole, as the config says."""
    saved = any(f".{module}." in f".{name}" for module in config.modules_to_save)
    return saved or (engine == VLLM and name.endswith(_IGNORED_BY_VLLM))


def _name_fault(name: str) -> str | None:
    parts = name.split(".")
    outermost = parts[2:3] == [_DATA_PARALLEL]
    wrapper = next((each for each in _WRAPPERS if each in parts), _DATA_PARALLEL if outermost else None)
    if wrapper:
        return f"tensor {shown(name)} has {wrapper} in its name; save the adapter of the unwrapped model"
    if _NAME.fullmatch(name):
        return None
    if "lora_magnitude_vector" in parts:
        return f"tensor {shown(name)} belongs to DoRA, which is not served; train without it"
    if any(each in parts for each in _EMBEDDINGS) and not any(each.startswith("lora_") for each in parts):
        return f"tensor {shown(name)} is a whole weight of the base; save with save_embedding_layers=False"
    return f"tensor {shown(name)} is no LoRA factor that engines know; save the adapter with PEFT's save_pretrained"


def _pair_fault(tensors: Mapping[str, TensorEntry]) -> str | None:
    if not tensors:
        return "adapter_model.safetensors has no LoRA factors; save the adapter with PEFT's save_pretrained"
    for name in tensors:
        if _other(name) not in tensors:
            return f"tensor {shown(name)} is there without {shown(_other(name))}; publish the adapter again"
    return None


def _other(name: str) -> str:
    """Return the name of the second factor beside the first, or the first beside the second."""
    for this, that in (("lora_A.weight", "lora_B.weight"), ("lora_embedding_A", "lora_embedding_B")):
        for end, other in ((this, that), (that, this)):
            if name.endswith(end):
                return name.removesuffix(end) + other
    raise AssertionError(name)


def _layers(tensors: Mapping[str, TensorEntry]) -> list[_Layer]:
    layers = []
    for name, first in tensors.items():
        found = _NAME.fullmatch(name)
        if found and found["part"] in ("lora_A.weight", "lora_embedding_A"):
            other = _other(name)
            layers.append(_Layer(found["module"], (name, other), first, tensors[other]))
    return layers


# One layer.


def _dtype_fault(name: str, tensor: TensorEntry) -> str | None:
    if tensor.dtype in _DTYPES:
        return None
    return f"tensor {shown(name)} has the number format {tensor.dtype}; save the adapter in BF16, F16 or F32"


def _rank_fault(layer: _Layer, config: AdapterConfig) -> str | None:
    for name, tensor in zip(layer.names, (layer.first, layer.second), strict=True):
        if len(tensor.shape) != 2 or 0 in tensor.shape:
            return f"tensor {shown(name)} has the shape {list(tensor.shape)} and is no matrix; adapt linear layers only"
    rank, other = layer.first.shape[0], layer.second.shape[1]
    if rank != other:
        return f"tensor {shown(layer.names[0])} has rank {rank} and its second factor {other}; {_DAMAGED}"
    expected = _ranks(layer.module, config)
    if any(rank % each == 0 if layer.stacked else rank == each for each in expected):
        return None
    said = " or ".join(map(str, sorted(expected)))
    return f"tensor {shown(layer.names[0])} has rank {rank}, and adapter_config.json says {said}; {_DAMAGED}"


def _ranks(module: str, config: AdapterConfig) -> set[int]:
    """Return the ranks that a module may have by the config.

    Names are looked up. A regular expression in rank_pattern is not carried out, because it comes from outside and
    could take for ever: any module may have its rank.
    """
    names = {key: rank for key, rank in config.rank_pattern.items() if re.fullmatch(r"[\w.-]+", key)}
    patterns = {rank for key, rank in config.rank_pattern.items() if key not in names}
    return {next((rank for key, rank in names.items() if _matches(module, key)), config.r), *patterns}


def _target_fault(layer: _Layer, config: AdapterConfig) -> str | None:
    targets = config.target_modules
    if isinstance(targets, str) or not (targets or config.target_parameters):
        return None
    if layer.stacked:
        module = layer.module.removesuffix(".base_layer")
        named = any(_matches(module, each.rpartition(".")[0]) for each in config.target_parameters)
        field = "target_parameters"
    else:
        named, field = any(_matches(layer.module, each) for each in targets), "target_modules"
    if named:
        return None
    return f"tensor {shown(layer.names[0])} is of no module in {field} of adapter_config.json; name its module there"


def _matches(module: str, name: str) -> bool:
    return module == name or module.endswith(f".{name}")


# Layers among each other.


def _shape_fault(layers: list[_Layer]) -> str | None:
    return _width_fault(layers) or _module_fault(layers) or _outlier_fault(layers)


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of one layer: what it reads, or what it writes."""

    layer: _Layer
    reads: bool

    @property
    def size(self) -> int:
        return self.layer.inputs if self.reads else self.layer.outputs


def _width_fault(layers: list[_Layer]) -> str | None:
    """Compare all that reads or writes the width of the model, in each stack of layers; experts may have their own."""
    stacks: dict[Hashable, list[_Side]] = {}
    for layer in layers:
        stack = _NUMBER.split(layer.module, maxsplit=1)[0]
        if ".experts." in layer.module or "cross" in layer.parent:
            continue
        if layer.leaf in _READERS:
            stacks.setdefault(stack, []).append(_Side(layer, reads=True))
        if layer.leaf in _WRITERS:
            stacks.setdefault(stack, []).append(_Side(layer, reads=False))
    return _first(_difference, stacks.values())


def _module_fault(layers: list[_Layer]) -> str | None:
    """Compare the matrices of one gated module: what two write, the third reads; and what two read, it writes."""
    inner: dict[Hashable, list[_Side]] = {}
    outer: dict[Hashable, list[_Side]] = {}
    for layer in layers:
        if layer.leaf in ("gate_proj", "up_proj", "down_proj"):
            first = layer.leaf != "down_proj"
            outer.setdefault(layer.parent, []).append(_Side(layer, reads=first))
            inner.setdefault(layer.parent, []).append(_Side(layer, reads=not first))
    return _first(_difference, [*outer.values(), *inner.values()])


def _outlier_fault(layers: list[_Layer]) -> str | None:
    """Look for a layer that has another shape than all others of its kind, which have one in common."""
    kinds: dict[Hashable, list[_Layer]] = {}
    for layer in layers:
        kinds.setdefault(_NUMBER.sub("#", layer.module), []).append(layer)
    for alike in kinds.values():
        for reads in (True, False):
            sides = [_Side(layer, reads) for layer in alike]
            counts = Counter(each.size for each in sides)
            if len(counts) == 2 and min(counts.values()) == 1:
                return _difference(sides)
    return None


def _difference(sides: list[_Side]) -> str | None:
    """Return a sentence about the first side that differs from most; where there is no most, from the largest."""
    counts = Counter(each.size for each in sides)
    usual = max(counts, key=lambda size: (counts[size], size))
    return _first(lambda side: None if side.size == usual else _odd(side, usual), sides)


def _odd(side: _Side, usual: int) -> str:
    name, what = (side.layer.names[0], "columns") if side.reads else (side.layer.names[1], "rows")
    return f"tensor {shown(name)} has {side.size} {what}, where others of the model have {usual}; {_DAMAGED}"
