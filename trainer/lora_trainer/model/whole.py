"""Modules that are trained whole, in float32 whatever the base is.

Steps of a learning rate of 0.0002 vanish in bfloat16. The module gets its inputs in float32, and one inside the model
hands its outputs on in the format of the base; a head's stay in float32 for the loss.
"""

from typing import Any

import torch
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn

from lora_trainer.model.initialization import ADAPTER
from lora_trainer.model.targets import matches


def keep_in_float32(model: Any, heads: list[str]) -> None:
    """Turn the modules of a PEFT model that are trained whole into float32. `heads` are the last ones of the model."""
    for path, wrapper in list(model.named_modules()):
        if not isinstance(wrapper, ModulesToSaveWrapper) or ADAPTER not in wrapper.modules_to_save:
            continue
        module = wrapper.modules_to_save[ADAPTER]
        dtype = next(module.parameters()).dtype
        if dtype is not torch.float32:
            module.to(torch.float32)
            module.register_forward_pre_hook(_inputs_to_float32)
            if not any(matches(path, name) for name in heads):
                module.register_forward_hook(_OutputTo(dtype))


class _OutputTo:
    """Hook that turns a module's output into a format."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Return the output, if it is one tensor, in the format."""
        return output.to(self._dtype) if isinstance(output, Tensor) else output


def _inputs_to_float32(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.float() if isinstance(each, Tensor) and each.is_floating_point() else each for each in inputs)
