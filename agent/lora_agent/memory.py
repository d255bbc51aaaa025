"""What the agent must still know after its own restart: which names it loaded, and whom the pod's start waits for.

It lies in the store, which lives as long as the pod. A file that is lost or damaged costs only that: names whose path
the engine does not tell are then left alone, because they may be somebody else's.
"""

from pathlib import Path

from pydantic import ValidationError

from lora_agent.store import write_whole
from lora_api.base import StatusModel

_NAME = "agent.json"


class Loaded(StatusModel):
    """One name that the agent gave to the engine."""

    adapter: str = ""
    """Name of the LoRAAdapter; empty for the name of a probe."""
    digest: str = ""
    """What the engine took; empty while it has taken nothing."""
    intended: str = ""
    """What it is being given; still there after a crash in the middle of that."""
    unloaded: bool = False
    """Whether the engine took the name's removal, and only has to show it."""


class Memory(StatusModel):
    """What is kept, as JSON."""

    loaded: dict[str, Loaded] = {}
    """By served name; written before the engine is called, so that a name is never forgotten."""
    waited: list[str] | None = None
    """LoRAAdapters that readiness waits for; None before the first desired text was seen."""
    started: bool = False
    """Whether the engine was once allowed to start."""


class MemoryFile:
    """The memory on disk. `save` writes only what changed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._saved = Memory()

    def load(self) -> Memory:
        """Return what was kept; nothing if it cannot be read."""
        try:
            self._saved = Memory.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            self._saved = Memory()
        return self._saved

    def save(self, memory: Memory) -> None:
        """Keep a state. Raises OSError, for example when the disk is full."""
        if memory != self._saved:
            write_whole(self._path, memory.model_dump_json(by_alias=True).encode())
            self._saved = memory
