"""Answers as an engine that reads the folder of adapters when it starts, and tells nobody what it found."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.engines.standalone import Reply


@dataclass
class Tgi:
    """One server."""

    folder: Path
    health: int = 200
    served: dict[str, str] = field(default_factory=dict)
    """Name to path, as read at the start; only the test can see it."""

    def __post_init__(self) -> None:
        """Start."""
        self.restart()

    def restart(self) -> None:
        """Read the folder again."""
        self.served = {
            each.name: str(each.resolve()) for each in self.folder.iterdir() if (each / "adapter_config.json").is_file()
        }

    def answer(self, method: str, path: str, key: str | None, body: Any) -> Reply:
        """Answer one request."""
        return (self.health, "") if (method, path) == ("GET", "/health") else (404, "")
