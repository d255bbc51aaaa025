"""What an adapter costs to store, held against a full copy of the model: the argument for LoRA in numbers.

Pure. Adapters are stored in float32 and bases as they are, so the two counts of bytes are those of real files, without
their headers of some kilobytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ADAPTER_BYTES_PER_VALUE = 4


@dataclass(frozen=True)
class Sizes:
    """Counts of one adapter and its base."""

    parameters: int
    """Weights of the base model."""
    trainable: int
    """Weights of the adapter, with modules that are saved whole."""
    base_bytes_per_value: int
    """4 for float32, 2 for bfloat16 and float16."""

    @property
    def trainable_share(self) -> float:
        """Trained weights for each of the base, 0 to 1."""
        return self.trainable / self.parameters

    @property
    def adapter(self) -> int:
        """Bytes of the adapter."""
        return adapter_bytes(self.trainable)

    @property
    def full(self) -> int:
        """Bytes of a full copy of the model, which fine-tuning all weights would give for each task."""
        return full_bytes(self.parameters, self.base_bytes_per_value)


def stored_bytes_per_value(config: Mapping[str, Any]) -> int:
    """Return the bytes of one weight in the files of a base, by its config.json; 4 where it says nothing."""
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return 4 if dtype == "float32" else 2


def adapter_bytes(trainable: int) -> int:
    """Return the bytes of the weights of an adapter."""
    return trainable * _ADAPTER_BYTES_PER_VALUE


def full_bytes(parameters: int, bytes_per_value: int) -> int:
    """Return the bytes of the weights of a whole model."""
    return parameters * bytes_per_value
