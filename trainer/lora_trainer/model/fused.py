"""The linear layer and its adapter as one operation, equal in numbers to PEFT's.

PEFT widens the whole input to the adapter's float32, and adds and scales in passes of their own. Here the two small
matrices are cast instead, the sum is part of the product, and only the input and its projection are kept for the
backward pass.
Computation is in the format of the base, autocast or not: fused layers need no autocast, and ignore it but for the
format of their input.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from torch.nn import functional
from transformers.pytorch_utils import Conv1D
from transformers.utils import is_bitsandbytes_available

from lora_trainer.model.arithmetic import product_dtype


def fuse_lora(model: PeftModel) -> int:
    """Fuse the adapted linear layers of a model where that is exact, and return how many.

    Left to PEFT are layers with dropout, DoRA, several adapters, or a base layer that is itself trained. A fused layer
    goes back to PEFT's way while adapters are switched off or merged.
    """
    fused = [module for module in model.modules() if isinstance(module, LoraLayer) and _can_be_fused(module)]
    for module in fused:
        module.forward = MethodType(_forward_of(module), module)
    return len(fused)


def _can_be_fused(module: LoraLayer) -> bool:
    if type(module) not in _fusable_types() or len(module.lora_A) != 1:
        return False
    (name,) = module.lora_A
    plain = isinstance(module.lora_dropout[name], torch.nn.Identity) and not module.lora_bias[name]
    frozen = not any(each.requires_grad for each in module.get_base_layer().parameters())
    return plain and frozen and name not in module.lora_variant


def _fusable_types() -> tuple[type, ...]:
    if not is_bitsandbytes_available():
        return (LoraLinear,)
    from peft.tuners.lora.bnb import Linear4bit, Linear8bitLt

    return LoraLinear, Linear4bit, Linear8bitLt


def _forward_of(module: LoraLayer) -> Callable[..., torch.Tensor]:
    return _dense_forward if type(module.get_base_layer()) in (torch.nn.Linear, Conv1D) else _any_forward


def _dense_forward(module: Any, x: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
    """Compute base and adapter in one."""
    base, given = module.base_layer, x
    x = _in_autocast_format(x)
    if _is_out_of_the_ordinary(module, arguments, options) or x.dtype != base.weight.dtype:
        return type(module).forward(module, given, *arguments, **options)  # type: ignore[no-any-return]
    weight = base.weight.T if isinstance(base, Conv1D) else base.weight
    (name,) = module.active_adapters
    return _FusedLinear.apply(  # type: ignore[no-any-return, no-untyped-call]
        x, weight, base.bias, module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name]
    )


def _any_forward(module: Any, x: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
    """Compute the adapter on top of a base layer of any kind, such as a quantized one."""
    if _is_out_of_the_ordinary(module, arguments, options):
        return type(module).forward(module, x, *arguments, **options)  # type: ignore[no-any-return]
    x = _in_autocast_format(x)
    result = module.base_layer(x)
    (name,) = module.active_adapters
    wide = product_dtype(x)
    a, b = module.lora_A[name].weight.to(wide), module.lora_B[name].weight.to(wide)
    with torch.autocast(x.device.type, enabled=False):
        low = x.flatten(0, -2).to(wide) @ a.T
        total = torch.addmm(result.flatten(0, -2).to(wide), low, b.T, alpha=module.scaling[name])
    return total.to(result.dtype).view_as(result)


def _is_out_of_the_ordinary(module: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
    special = arguments or any(value is not None for value in options.values())
    others = len(module.active_adapters) != 1 or module.active_adapters[0] not in module.lora_A
    return bool(special or module.disable_adapters or module.merged or others)


def _in_autocast_format(x: torch.Tensor) -> torch.Tensor:
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class _FusedLinear(torch.autograd.Function):
    """`x W^T + bias + scale * (x A^T) B^T`, where W and bias are frozen."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        wide = product_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            rows = x.flatten(0, -2).to(wide)
            low = rows @ a.to(wide).T
            result = functional.linear(rows, weight.to(wide), None if bias is None else bias.to(wide))
            result.addmm_(low, b.to(wide).T, alpha=scale)
        ctx.save_for_backward(x, weight, a, b, low)
        ctx.scale = scale
        return result.to(x.dtype).view(*x.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        x, weight, a, b, low = ctx.saved_tensors
        wide = low.dtype
        to_x = None
        with torch.autocast(x.device.type, enabled=False):
            rows, gradient = x.flatten(0, -2).to(wide), gradient.flatten(0, -2).to(wide)
            to_low = (gradient @ b.to(wide)).mul_(ctx.scale)
            to_a = (to_low.T @ rows).to(a.dtype)
            to_b = (gradient.T @ low).to(b.dtype).mul_(ctx.scale)
            if ctx.needs_input_grad[0]:
                to_x = gradient @ weight.to(wide)
                to_x = to_x.addmm_(to_low, a.to(wide)).to(x.dtype).view_as(x)
        return to_x, None, None, to_a, to_b, None
