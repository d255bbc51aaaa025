"""The base model in memory: device, number format, weights, and the new head where the task has one.

Safetensors only, no code of the model's own, no network. Weights that the files lack are refused, as transformers would
fill them with random numbers; only the new head of a classification is made here, by the job's seed.
"""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, PreTrainedModel

from lora_api.lorajob import LoRAJobSpec
from lora_api.training import Precision
from lora_trainer.errors import TrainerError, invalid_request
from lora_trainer.logs import log
from lora_trainer.model.arithmetic import cpu_has_bfloat16
from lora_trainer.model.heads import mark_new, may_be_new
from lora_trainer.model.quantize import keep_packing, quantization_config
from lora_trainer.tasks import rules_of

_MINIMUM_BF16_CAPABILITY = (8, 0)  # Ampere; older GPUs emulate bfloat16, slower than float32


def choose_device(spec: LoRAJobSpec) -> torch.device:
    """Return the device that the job asks for. Raises 64 when it asks for a GPU and there is none.

    Not the CPU in its place: a pod whose driver is broken would train for weeks without a word.
    """
    if spec.resources.gpus == 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise invalid_request(
            f"spec.resources.gpus: {spec.resources.gpus} is asked for, and no CUDA device is visible",
            "check the driver and the resource name of the node, or set spec.resources.gpus to 0 for the CPU",
        )
    return torch.device("cuda")


def choose_precision(wanted: Precision, device: torch.device) -> torch.dtype:
    """Return the format of base and computation. Auto: bfloat16 where the device computes in it, else float32."""
    if wanted is Precision.FP16 and device.type == "cpu":
        raise invalid_request("spec.training.precision: FP16 does not train on a CPU", "use Auto, BF16 or FP32")
    named = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16, Precision.FP32: torch.float32}
    if wanted in named:
        return named[wanted]
    return torch.bfloat16 if _has_bfloat16(device) else torch.float32


def device_memory(device: torch.device) -> int | None:
    """Return the memory of a GPU in bytes, or None for the CPU."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def load_base(
    folder: Path, dtype: torch.dtype, spec: LoRAJobSpec, labels: list[str], device: torch.device
) -> PreTrainedModel:
    """Load the model of a job's task from a local folder to a device.

    `labels` are the classes of a classification, in the order of their ids; empty for other tasks. Raises 64 where the
    folder lacks weights of the architecture.
    """
    new_head = rules_of(spec).whole_modules
    # A model of several devices takes its part later; a GPU is filled directly, without a copy in the pod's memory.
    placed = {"device_map": {"": device}} if device.type == "cuda" or spec.quantization is not None else {}
    heads = {"ignore_mismatched_sizes": True, **_label_settings(labels)} if new_head else {}
    torch.manual_seed(spec.training.seed)  # of the new head
    model, info = _from_files(
        folder,
        spec,
        dtype=dtype,
        output_loading_info=True,
        **placed,
        **heads,
        **_quantization(folder, dtype, spec, labels),
    )
    missing = {*info["missing_keys"], *(key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"])}
    lacking = sorted(name for name in missing if not (new_head and may_be_new(model, name)))
    if lacking:
        raise invalid_request(
            "spec.baseModel.uri: the files do not fit the config: "
            f"{len(lacking)} weights are missing or have another shape ({', '.join(lacking[:3])})",
            "upload the whole model",
        )
    if new_head:
        mark_new(model, missing)
        log("new head made", labels=len(labels), weights=sorted(missing))
    keep_packing(model)
    model.config.use_cache = False
    return model


def _from_files(folder: Path, spec: LoRAJobSpec, **settings: Any) -> Any:
    auto_model = rules_of(spec).auto_model
    try:
        return getattr(transformers, auto_model).from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, local_files_only=True, **settings
        )
    except (ValueError, KeyError, ImportError, RuntimeError) as error:
        raise _unloadable(spec, error) from error


def _label_settings(labels: list[str]) -> dict[str, Any]:
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def _quantization(folder: Path, dtype: torch.dtype, spec: LoRAJobSpec, labels: list[str]) -> dict[str, Any]:
    """Return the settings of a quantized base. A new head is trained whole, so it must not be quantized."""
    if spec.quantization is None:
        return {}
    unquantized = None
    if rules_of(spec).whole_modules:
        outline = _outline(folder, spec, labels)
        linear = (name for name, module in outline.named_modules() if isinstance(module, torch.nn.Linear))
        unquantized = [name for name in linear if may_be_new(outline, f"{name}.weight")]
    return {"quantization_config": quantization_config(spec.quantization, dtype, unquantized)}


def _outline(folder: Path, spec: LoRAJobSpec, labels: list[str]) -> PreTrainedModel:
    """Return the model of a task without weights."""
    try:
        config = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **_label_settings(labels)
        )
        with torch.device("meta"):
            outline: PreTrainedModel = getattr(transformers, rules_of(spec).auto_model).from_config(config)
    except (ValueError, KeyError, ImportError) as error:
        raise _unloadable(spec, error) from error
    return outline


def _unloadable(spec: LoRAJobSpec, error: Exception) -> TrainerError:
    return invalid_request(
        f"spec.baseModel.uri: transformers does not load the model for {spec.task.value} ({type(error).__name__})",
        "use a model whose architecture transformers knows for this task",
    )


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _MINIMUM_BF16_CAPABILITY
    return cpu_has_bfloat16()
