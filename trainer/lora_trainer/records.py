"""Log and measurements, stored beside the artifacts, so that they outlive the pod.

Best effort: that they cannot be stored never changes how a run ends.
"""

from lora_trainer.context import Context
from lora_trainer.errors import TrainerError
from lora_trainer.logs import warn


def upload_records(context: Context) -> None:
    """Store what this process logged and measured, as far as it did.

    The log follows those of the pods before it in this run: the preflight, and attempts that failed. Measurements
    replace theirs, because an attempt measures the whole run.
    """
    layout, workspace = context.layout, context.workspace
    for local, uri, follows in ((workspace.metrics, layout.metrics, False), (workspace.log, layout.log, True)):
        try:
            if local.exists():
                target = context.output(uri)
                before = context.storage.read_if_there(target) if follows else None
                context.storage.write(target, (before or b"") + local.read_bytes())
        except (TrainerError, OSError) as error:
            warn("a record was not stored", uri=uri, error=type(error).__name__)
