"""Writes tiny adapter folders without torch: right ones, and such as engines refuse or overlook."""

import hashlib
import json
from pathlib import Path
from typing import Any

COLUMNS = 8


def write_adapter(
    folder: Path, *, seed: str = "one", rank: int = 8, zero: bool = False, cut: int = 0, **config: Any
) -> Path:
    """Write an adapter and return its folder. `zero` makes it change nothing, `cut` drops bytes at its end."""
    folder.mkdir(parents=True)
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["q_proj"]} | config
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    content = _safetensors(seed, rank, zero=zero)
    (folder / "adapter_model.safetensors").write_bytes(content[: len(content) - cut])
    return folder


def store_adapter(adapters: Path, **options: Any) -> Path:
    """Write an adapter into the store of a folder of adapters, as the agent does, and return its path."""
    digest = hashlib.sha256(repr(sorted(options.items())).encode()).hexdigest()
    return write_adapter(adapters / ".store" / f"sha256-{digest}", **options)


def _safetensors(seed: str, rank: int, *, zero: bool) -> bytes:
    size = 4 * rank * COLUMNS
    header, data = {}, b""
    for factor, shape in (("A", [rank, COLUMNS]), ("B", [COLUMNS, rank])):
        name = f"base_model.model.model.layers.0.self_attn.q_proj.lora_{factor}.weight"
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += bytes(size) if zero and factor == "B" else _bytes(seed + factor, size)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _bytes(seed: str, size: int) -> bytes:
    return hashlib.shake_256(seed.encode()).digest(size)
