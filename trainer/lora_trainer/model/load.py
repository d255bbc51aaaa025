"""The model in memory: number format, base weights, and the fresh adapter on them.

Safetensors only, no code of the model's own, no network. The base is frozen; the adapter is kept in float32.
"""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lora_api.lorajob import LoRAJobSpec
from lora_api.training import Lora, Precision
from lora_trainer.errors import invalid_request
from lora_trainer.logs import log
from lora_trainer.model.targets import Shape, ranks, resolve_targets

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


def load_base(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Load a causal language model from a local folder.

    Raises 64 where the folder lacks weights of the architecture: transformers would fill them with random numbers.
    """
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (ValueError, KeyError, ImportError) as error:
        raise invalid_request(
            f"spec.baseModel.uri: transformers does not load the model ({type(error).__name__})",
            "use a model whose architecture transformers knows",
        ) from error
    missing, mismatched = sorted(info["missing_keys"]), sorted(info["mismatched_keys"])
    if missing or mismatched:
        raise invalid_request(
            f"spec.baseModel.uri: the files do not fit the config: {len(missing)} weights are missing "
            f"({', '.join(missing[:3])}), {len(mismatched)} have another shape",
            "upload the whole model",
        )
    model.config.use_cache = False
    return model  # type: ignore[no-any-return]


def add_adapter(model: PreTrainedModel, lora: Lora, seed: int) -> PeftModel:
    """Freeze the base and put a fresh adapter on it. The same seed gives the same adapter."""
    layers = layers_of(model)
    targets = resolve_targets(lora, layers)
    ranks(lora, targets, layers)  # refuses a rankPattern that fits nothing, which PEFT would ignore
    torch.manual_seed(seed)
    adapted = get_peft_model(model, lora_config(lora, targets), autocast_adapter_dtype=True)
    trainable, total = adapted.get_nb_trainable_parameters()
    log("adapter added", targets=targets, trainableParameters=trainable, parameters=total - trainable)
    return adapted  # type: ignore[return-value]


def lora_config(lora: Lora, targets: list[str]) -> LoraConfig:
    """Return PEFT's config for the LoRA settings of a job."""
    alpha = int(lora.alpha) if float(lora.alpha).is_integer() else lora.alpha  # engines expect a whole number
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=targets,
        use_rslora=lora.rs_lora,
        rank_pattern=dict(lora.rank_pattern),
        bias="none",
        init_lora_weights=True,
    )


def layers_of(model: PreTrainedModel) -> dict[str, Shape]:
    """Return the linear layers of a model but the output layer, by module path."""
    output = model.get_output_embeddings()
    return {
        name: (module.weight.shape[0], module.weight.shape[1])
        for name, module in model.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D)) and module is not output
    }


def device_memory(device: torch.device) -> int | None:
    """Return the memory of a GPU in bytes, or None for the CPU."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _MINIMUM_BF16_CAPABILITY
    checks: list[Any] = [
        getattr(torch.cpu, "_is_amx_tile_supported", None),
        getattr(torch.cpu, "_is_avx512_bf16_supported", None),
    ]
    return any(check() for check in checks if check)
