"""The adapter as files that PEFT and every engine read: its config and its weights, and nothing else.

Whatever loads it finds the name and revision of the base, never the folder it was trained from; the names of the
modules, never a pattern; no embeddings; names of tensors without the marks of any wrapper. The same weights give the
same bytes, because the digest of the adapter is that of its files.
"""

import json
import math
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from lora_trainer.model.adapter import initial_state, trainable_state
from lora_trainer.model.initialization import ADAPTER
from lora_trainer.publish.publication import ADAPTER_CONFIG, ADAPTER_WEIGHTS, base_name

_FILE_MODE = 0o644  # safetensors writes 0600, which another user's server cannot read
_NOT_PUBLISHED = {"auto_mapping", "parent_library", "runtime_config"}
"""About the process that trained, not about the adapter."""


def save_adapter(
    model: PeftModel,
    folder: Path,
    base_uri: str,
    base_revision: str,
    initial: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Write the adapter to a folder, and return its config.

    `initial` are the factors that the adapter took out of the base, by default those that the model remembers; what is
    written adds what was learned and subtracts them, which fits the clean base and has twice the rank. Of a sharded
    model every rank has to call.
    """
    factors = initial_state(model) if initial is None else initial
    weights = _named(model, trainable_state(model))
    config = published_config(model.peft_config[ADAPTER].to_dict(), base_uri, base_revision, weights)
    if factors:
        config, weights = convert(config, weights, _named(model, factors))
    folder.mkdir(parents=True, exist_ok=True)
    ordered = {name: weights[name].contiguous() for name in sorted(weights)}
    save_file(ordered, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        (folder / name).chmod(_FILE_MODE)
    return config


def published_config(
    config: Mapping[str, Any], base_uri: str, base_revision: str, weights: Iterable[str]
) -> dict[str, Any]:
    """Return PEFT's config as it is published: base by its name, sets as sorted lists, ready for inference.

    Of the modules that are saved whole only those that are among the weights: PEFT adds usual names of heads.
    """
    kept = {name: _json_value(value) for name, value in config.items() if name not in _NOT_PUBLISHED}
    names = list(weights)
    saved = {module for module in config.get("modules_to_save") or () if any(f".{module}." in name for name in names)}
    return kept | {
        "modules_to_save": sorted(saved) or None,
        "base_model_name_or_path": base_name(base_uri),
        "revision": base_revision,
        "inference_mode": True,
    }


def convert(
    config: Mapping[str, Any], weights: Mapping[str, Tensor], initial: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return config and weights of an adapter for the clean base: B A - B0 A0, of twice the rank.

    The scale stays: alpha doubles with the rank, and where it goes by the root of the rank, B takes the rest of it.
    """
    rest = 1 / math.sqrt(2) if config.get("use_rslora") else 1.0
    converted = dict(weights)
    for name, before in initial.items():
        if name.endswith("lora_A.weight"):
            converted[name] = torch.cat([weights[name], before])
        else:
            converted[name] = torch.cat([weights[name], -before], dim=1) * rest
    pattern = {name: 2 * rank for name, rank in (config.get("rank_pattern") or {}).items()}
    changed = {"r": 2 * config["r"], "lora_alpha": 2 * config["lora_alpha"], "rank_pattern": pattern}
    return dict(config) | changed, converted


def _named(model: PeftModel, state: dict[str, Tensor] | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under the names of the file format, which know no name of the adapter."""
    named: dict[str, Tensor] = get_peft_model_state_dict(model, state_dict=dict(state), save_embedding_layers=False)
    return named


def _json_value(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return value.value if isinstance(value, Enum) else value
