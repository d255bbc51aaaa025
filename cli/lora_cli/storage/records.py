"""Where the records of a run lie, and what is in them."""

import json
import math
from typing import Any

from lora_api.artifacts import ArtifactLayout
from lora_api.sources import Storage
from lora_cli.errors import failed
from lora_cli.storage.files import Folder, open_folder, read

Document = dict[str, Any]


def run_of(job: Document, run: int | None = None) -> int:
    """Return the number of a run; that of the status if none is asked for. Raises `CliError` when there is none."""
    newest = int((job.get("status") or {}).get("run") or 0)
    if run is not None and not 1 <= run <= max(newest, 1):
        raise failed(f"there is no run {run} of {job['metadata']['name']}", f"the newest is {newest or 'not begun'}")
    return run or newest or 1


def run_folder(job: Document, run: int, endpoint: str | None = None) -> Folder:
    """Return the folder of a run of a LoRAJob."""
    spec, meta = job.get("spec") or {}, job["metadata"]
    layout = ArtifactLayout(
        output_uri=(spec.get("output") or {}).get("uri", ""), namespace=meta["namespace"], name=meta["name"], run=run
    )
    return open_folder(layout.run_uri, Storage.model_validate(spec.get("storage") or {}), endpoint)


def log_lines(folder: Folder) -> list[str]:
    """Return the lines of log.jsonl. Bytes are split, as a str ends its lines at more than line feeds."""
    return [each.decode(errors="replace") for each in read(folder, "log.jsonl").splitlines()]


def metric_lines(folder: Folder) -> list[Document]:
    """Return the lines of metrics.jsonl that are whole: the last one may be cut off."""
    found = []
    for each in read(folder, "metrics.jsonl").splitlines():
        try:
            found.append(json.loads(each))
        except ValueError:
            continue
    return [each for each in found if isinstance(each, dict) and isinstance(each.get("step"), int)]


def series(lines: list[Document], name: str) -> list[tuple[float, float]]:
    """Return step and value of each line that has a finite number of a name."""
    pairs = [(float(each["step"]), each.get(name)) for each in lines]
    return [(step, float(value)) for step, value in pairs if isinstance(value, int | float) and math.isfinite(value)]
