"""Log and measurements, stored beside the artifacts, so that they outlive the pod.

Stored after each checkpoint and at the end. Best effort: that they cannot be stored never changes how a run ends.
"""

import threading
from collections.abc import Callable
from pathlib import Path

from lora_trainer.context import Context
from lora_trainer.errors import TrainerError
from lora_trainer.logs import warn
from lora_trainer.storage.location import Location

_ONE_AT_A_TIME = threading.Lock()
"""The thread of the checkpoints and the end of the process may meet here; older content must not come last."""


def upload_records(context: Context) -> None:
    """Store what this process logged and measured, as far as it did.

    The log follows those of the pods before it in this run: the preflight, and attempts that failed. Measurements
    replace theirs, because the history of a checkpoint is part of them.
    """
    layout, workspace = context.layout, context.workspace
    with _ONE_AT_A_TIME:
        _store(context, workspace.metrics, layout.metrics, lambda _: b"")
        _store(context, workspace.log, layout.log, lambda target: _earlier(context, target))


def _store(context: Context, local: Path, uri: str, before: Callable[[Location], bytes]) -> None:
    try:
        content = local.read_bytes() if local.exists() else b""
        if content:  # an attempt that ended before it measured anything leaves what is there
            target = context.output(uri)
            context.storage.write(target, before(target) + content)
    except (TrainerError, OSError) as error:
        warn("a record was not stored", uri=uri, error=type(error).__name__)


def _earlier(context: Context, target: Location) -> bytes:
    """Return the log as it was before this process, read once and kept in the workspace, which begins empty."""
    kept = context.workspace.run_folder("records") / "earlier-log.jsonl"
    if not kept.exists():
        kept.write_bytes(context.storage.read_if_there(target) or b"")
    return kept.read_bytes()
