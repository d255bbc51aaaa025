"""In which number format matrix products are computed.

A CPU without instructions for bfloat16 multiplies it in software: 10 to 100 times slower than float32 (the backward
pass most of all). There the factors are widened, multiplied in float32, and the product is rounded once, which is what
hardware for bfloat16 does too. Weights and activations stay in bfloat16, so memory does not grow.
"""

from functools import cache

import torch


def product_dtype(tensor: torch.Tensor) -> torch.dtype:
    """Return the format in which products with this tensor are to be computed: its own, or float32."""
    if tensor.device.type == "cpu" and tensor.dtype is torch.bfloat16 and not cpu_has_bfloat16():
        return torch.float32
    return tensor.dtype


@cache
def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    checks = [getattr(torch.cpu, name, None) for name in names]
    return any(check() for check in checks if check)
