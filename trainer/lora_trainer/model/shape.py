"""What an adapter will be on a base model, from config and weight headers alone: its modules, its ranks, its size.

Pure and without torch, for the preflight; the same decisions as `adapter.add_adapter` takes on the model itself, and a
test holds the counts of both together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from lora_api.lorajob import LoRAJobSpec
from lora_trainer.model.heads import head_parameters, task_layers
from lora_trainer.model.options import CHANGING, check_options
from lora_trainer.model.targets import (
    is_embedding,
    linear_layers,
    ranks,
    resolve_targets,
    saved_whole,
    trainable_parameters,
)


@dataclass(frozen=True)
class AdapterShape:
    """An adapter before it exists."""

    targets: list[str]
    """Names of the modules that it changes."""
    ranks: dict[str, int]
    """Rank of each changed layer, by path."""
    trainable: int
    """Weights that are trained, with those of modules that are saved whole."""
    published: int
    """Weights of the file; more than are trained where the adapter is converted for the clean base."""


def adapter_shape(
    spec: LoRAJobSpec, config: Mapping[str, Any], weights: Mapping[str, tuple[int, ...]], labels: int
) -> AdapterShape:
    """Return the shape of the adapter that a job asks for.

    `config` is the content of config.json, `weights` the shapes of the stored weights by name, `labels` the number of
    classes. Raises `TrainerError` (64) for settings that this base cannot be trained with.
    """
    tied = {"lm_head"} if config.get("tie_word_embeddings") else set()
    whole = saved_whole([name for name in spec.lora.modules_to_save if name not in tied], weights)
    layers = task_layers(linear_layers(weights), config, spec.task)
    free = {path: shape for path, shape in layers.items() if f"{path}.weight" not in whole}
    targets = resolve_targets(spec.lora, free)
    layer_ranks = ranks(spec.lora, targets, free)
    check_options(spec, layer_ranks, free)
    factors = trainable_parameters(layer_ranks, free)
    more = trainable_parameters(layer_ranks, free, magnitudes=spec.lora.do_ra) - factors
    more += head_parameters(config, spec.task, labels, layers) + sum(prod(weights[name]) for name in whole)
    again = factors if spec.lora.initialization in CHANGING else 0  # of the start, which is subtracted
    again += sum(prod(weights[name]) for name in whole if tied and is_embedding(name))  # as input and as output
    return AdapterShape(targets, layer_ranks, factors + more, factors + more + again)
