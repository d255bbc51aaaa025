"""The merged form: the base with the adapter added to its weights, which any engine loads without knowing of LoRA.

Always into the weights as they were published, freshly loaded, never into quantized ones: what four bits lost would be
kept for ever, and a light adapter would drown in it.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from lora_api.lorajob import LoRAJobSpec
from lora_trainer.model.load import load_base

_SHARD_SIZE = "4GB"
_TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model")
_TEMPLATES = ("chat_template*", "*.jinja")
_FILE_MODE = 0o644


def save_merged(base: Path, adapter: Path, folder: Path, spec: LoRAJobSpec, labels: list[str]) -> None:
    """Write the merged model with its tokenizer to a folder: safetensors in shards, config, tokenizer.

    `base` is the folder of the base model, `adapter` that of the published adapter, `labels` the classes of a
    classification. Takes the memory of the base in its own number format, on the CPU.
    """
    unquantized = spec.model_copy(update={"quantization": None})
    model: Any = load_base(base, stored_dtype(base), unquantized, labels, torch.device("cpu"))
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload(safe_merge=True)
    merged.config.use_cache = True  # switched off for training only
    folder.mkdir(parents=True, exist_ok=True)
    merged.save_pretrained(folder, max_shard_size=_SHARD_SIZE)
    for pattern in (*_TOKENIZER_FILES, *_TEMPLATES):
        for file in base.glob(pattern):
            shutil.copyfile(file, folder / file.name)
    for file in folder.iterdir():
        file.chmod(_FILE_MODE)


def stored_dtype(base: Path) -> torch.dtype:
    """Return the number format of a base model's weights by its config; float32 where it says nothing."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    found = getattr(torch, str(name), torch.float32)
    return found if isinstance(found, torch.dtype) else torch.float32
