"""Answers as NIM does when it watches a folder: what it found at its last look is served under the folders' names.

Its list of models names no path and no parent. Folders that hold no adapter, or a broken one, are skipped.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.engines.standalone import LoadError, MissingError, Reply, Vllm


@dataclass
class Nim:
    """One server. `look` is the interval's tick, which a test gives."""

    folder: Path
    inner: Vllm = field(default_factory=lambda: Vllm(runtime_updating=False))

    def look(self) -> None:
        """See what the folder holds now."""
        there = {each.name: str(each.resolve()) for each in self.folder.iterdir() if each.is_dir()}
        for name in self.inner.loaded.keys() - there.keys():
            del self.inner.loaded[name]
        for name, path in there.items():
            try:
                self.inner.load(name, path)
            except (LoadError, MissingError):
                continue

    def restart(self) -> None:
        """Forget everything, and look."""
        self.inner.restart()
        self.look()

    def answer(self, method: str, path: str, key: str | None, body: Any) -> Reply:
        """Answer one request."""
        if (method, path) != ("GET", "/v1/models"):
            return self.inner.answer(method, path, key, body)
        names = [self.inner.base, *self.inner.loaded]
        return 200, {"data": [{"id": name, "root": self.inner.base, "parent": None} for name in names]}
