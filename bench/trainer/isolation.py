"""Runs a task of `worker` in a new process with a given number of threads, and brings back what it answers."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_TAIL = 3000

_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "TOKENIZERS_PARALLELISM": "true",
}


def run_alone(task: str, request: str, *, threads: int, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the answer of a task. Raises `RuntimeError` with the end of its output when it fails."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "request.json").write_text(request)
        command = [sys.executable, "-m", "bench.trainer.worker", task]
        command += [str(folder / "request.json"), str(folder / "result.json")]
        environment = {**os.environ, **_QUIET, **(variables or {}), "OMP_NUM_THREADS": str(threads)}
        environment |= {"HF_HOME": str(folder / "hub"), "TMPDIR": name, "LORA_SCRATCH": str(folder / "scratch")}
        done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            said = f"{done.stdout[-_TAIL:]}\n{done.stderr[-_TAIL:]}".rstrip()
            raise RuntimeError(f"{task}: exit {done.returncode}, {said.splitlines()[-1]}\n{said}")
        answer: dict[str, Any] = json.loads((folder / "result.json").read_text())
        return answer
