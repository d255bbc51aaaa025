"""What the queue holds: which object wants a pass."""

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """Kinds that are reconciled."""

    LORAJOB = "LoRAJob"
    LORAADAPTER = "LoRAAdapter"


class Key(NamedTuple):
    """One object."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"
