"""A quantized base model (QLoRA): how its weights are stored, and which are left as they are.

Computation stays in the precision of the job, the adapter in float32. A merge never starts from these weights.
"""

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.utils import is_bitsandbytes_available

from lora_api.training import Quantization
from lora_trainer.errors import invalid_request


def quantization_config(
    quantization: Quantization, dtype: torch.dtype, unquantized: list[str] | None
) -> BitsAndBytesConfig:
    """Return the settings of bitsandbytes.

    `unquantized` are the modules that stay in `dtype`; None is the output layer. Raises 64 without the library.
    """
    if not is_bitsandbytes_available():
        raise invalid_request(
            "spec.quantization: this image has no bitsandbytes", "use the trainer image, or remove spec.quantization"
        )
    if quantization.bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=unquantized)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization.type,
        bnb_4bit_use_double_quant=quantization.double_quantization,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=unquantized,
    )


def keep_packing(model: PreTrainedModel) -> None:
    """Keep 4-bit weights as they were loaded.

    On CPUs that compute in bfloat16, bitsandbytes 0.50 packs them anew at the first evaluation and rounds their scales
    to bfloat16: the base under the adapter would change in the middle of a training, and rows of under 64 values fail.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
