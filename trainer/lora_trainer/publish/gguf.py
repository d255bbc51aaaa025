"""The adapter as a GGUF file for llama.cpp, which adds it to a base of any quantization while it runs.

The names of tensors are those of llama.cpp, and the outputs of query and key of Llama models lie in its order, which
pairs the two halves that the rotation of positions turns together. Only architectures whose layout is known are
written; others are refused before the training.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFType, GGUFWriter, Keys, TensorNameMap, get_tensor_name_map
from safetensors.numpy import load_file

from lora_api.lorajob import LoRAJobSpec
from lora_api.training import Task
from lora_trainer.errors import TrainerError, invalid_request
from lora_trainer.publish.publication import ADAPTER_WEIGHTS

FILE = "adapter.gguf"
_ARCHITECTURES = {
    "llama": MODEL_ARCH.LLAMA,
    "mistral": MODEL_ARCH.LLAMA,
    "qwen2": MODEL_ARCH.QWEN2,
    "qwen3": MODEL_ARCH.QWEN3,
    "gemma": MODEL_ARCH.GEMMA,
    "gemma2": MODEL_ARCH.GEMMA2,
    "gemma3_text": MODEL_ARCH.GEMMA3,
}
"""llama.cpp's architecture by the `model_type` of config.json."""
_ROOT = "base_model.model."
_ENDS = {".lora_A.weight": ".weight.lora_a", ".lora_B.weight": ".weight.lora_b"}
_FIELD = "spec.output.formats: GGUF"


def check_gguf(spec: LoRAJobSpec, config: Mapping[str, Any], layers: list[str]) -> None:
    """Raise a `TrainerError` (64) for an adapter that has no GGUF form.

    `config` is the content of the base's config.json, `layers` the paths of the layers that the adapter changes.
    """
    family = str(config.get("model_type"))
    if spec.task is not Task.CAUSAL_LM:
        raise _refused(f"it is for language models, and the task is {spec.task.value}")
    if family not in _ARCHITECTURES:
        raise _refused(f"the layout of {family} is not known here; known are {', '.join(_ARCHITECTURES)}")
    if spec.lora.do_ra:
        raise _refused("llama.cpp has no DoRA", "set spec.lora.doRA to false")
    if spec.lora.modules_to_save:
        raise _refused("it cannot hold modules that are saved whole", "remove spec.lora.modulesToSave")
    names = _names(config)
    for path in layers:
        if names.get_name(path) is None:
            raise _refused(f"llama.cpp has no name for {path}", "name spec.lora.targetModules without it")


def save_gguf(adapter: Path, folder: Path, base_config: Mapping[str, Any], adapter_config: Mapping[str, Any]) -> Path:
    """Write the published adapter in a folder as a GGUF file, and return it. The same adapter gives the same bytes.

    Tensors stay in float32: `lora_a` (rank x inputs) and `lora_b` (outputs x rank). llama.cpp scales by alpha / rank of
    each tensor; where the adapter scales by the root of the rank, `lora_b` takes the rest of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FILE
    writer = GGUFWriter(file, MODEL_ARCH_NAMES[_architecture(base_config)])
    writer.add_type(GGUFType.ADAPTER)
    writer.add_string(Keys.Adapter.TYPE, "lora")
    writer.add_float32(Keys.Adapter.LORA_ALPHA, float(adapter_config["lora_alpha"]))
    rooted = bool(adapter_config.get("use_rslora"))
    for name, values in _tensors(load_file(adapter / ADAPTER_WEIGHTS), base_config, rooted=rooted):
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file.chmod(0o644)
    return file


def interleave(rows: np.ndarray, heads: int) -> np.ndarray:
    """Return the rows of a query or key in llama.cpp's order.

    Transformers rotates row i of a head together with row i + half of it, llama.cpp rows 2i and 2i + 1.
    """
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


def _tensors(
    weights: Mapping[str, np.ndarray], config: Mapping[str, Any], *, rooted: bool
) -> Iterator[tuple[str, np.ndarray]]:
    names = _names(config)
    for name in sorted(weights):
        values = weights[name].astype(np.float32)
        end = next((each for each in _ENDS if name.endswith(each)), None)
        path = name.removeprefix(_ROOT).removesuffix(end or "")
        known = names.get_name(path)
        if end is None or known is None:
            raise _refused(f"{name} has no place in it")
        if end == ".lora_B.weight":
            values = _reordered(values, path, config)
            values = values * np.float32(math.sqrt(values.shape[1])) if rooted else values
        yield known + _ENDS[end], np.ascontiguousarray(values)


def _reordered(values: np.ndarray, path: str, config: Mapping[str, Any]) -> np.ndarray:
    heads = int(config["num_attention_heads"])
    counts = {"q_proj": heads, "k_proj": int(config.get("num_key_value_heads") or heads)}
    leaf = path.rpartition(".")[2]
    if _architecture(config) is not MODEL_ARCH.LLAMA or leaf not in counts:
        return values
    return interleave(values, counts[leaf])


def _names(config: Mapping[str, Any]) -> TensorNameMap:
    return get_tensor_name_map(_architecture(config), int(config["num_hidden_layers"]))


def _architecture(config: Mapping[str, Any]) -> MODEL_ARCH:
    return _ARCHITECTURES[str(config.get("model_type"))]


def _refused(why: str, fix: str = "remove GGUF from spec.output.formats") -> TrainerError:
    return invalid_request(f"{_FIELD}: {why}", fix)
