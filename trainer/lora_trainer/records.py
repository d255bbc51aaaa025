"""Log and measurements, stored beside the artifacts, so that they outlive the pod.

Best effort: that they cannot be stored never changes how a run ends.
"""

from lora_trainer.context import Context
from lora_trainer.errors import TrainerError
from lora_trainer.logs import warn


def upload_records(context: Context) -> None:
    """Store log.jsonl and metrics.jsonl of this process, as far as they are there."""
    layout, workspace = context.layout, context.workspace
    for local, uri in ((workspace.metrics, layout.metrics), (workspace.log, layout.log)):
        try:
            if local.exists():
                context.storage.write(context.output(uri), local.read_bytes())
        except (TrainerError, OSError) as error:
            warn("a record was not stored", uri=uri, error=type(error).__name__)
