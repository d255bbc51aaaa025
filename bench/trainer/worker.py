"""One measurement in a process of its own: `python -m bench.trainer.worker TASK REQUEST RESULT`.

So that no contender finds memory, caches or thread pools of another. Request and result are files of JSON.
"""

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

_TASKS = {
    "train": ("bench.trainer.training", "train"),
    "prepare": ("bench.trainer.preparation", "prepare"),
    "make-model": ("bench.trainer.shapes", "make_model"),
    "stall": ("bench.trainer.stalls", "stall"),
}
"""Module and function of each task; a process imports only what it runs."""


def main(task: str, request: str, result: str) -> None:
    """Run a task and write what it returns, a dataclass."""
    module, name = _TASKS[task]
    run: Callable[[dict[str, Any]], Any] = getattr(importlib.import_module(module), name)
    answer = run(json.loads(Path(request).read_text()))
    Path(result).write_text(json.dumps(asdict(answer)))


if __name__ == "__main__":
    main(*sys.argv[1:])
