"""Clean-up: the artifacts of a job that is deleted with `deletionPolicy: Delete`, and nothing else.

It may die at any moment and be started again: the manifests go first, so that no half of an adapter or a checkpoint is
ever believed. What jobs share stays, and so does everything beside the folder of the job. It reads no input, imports no
torch, and leaves no log behind, which would be the first file of a new folder.
"""

import re

from lora_api.artifacts import MANIFEST_NAME
from lora_api.exit_codes import ExitCode
from lora_api.messages import TerminationMessage
from lora_api.reasons import Reason
from lora_trainer.context import Context
from lora_trainer.errors import TrainerError, invalid_request
from lora_trainer.logs import log
from lora_trainer.signals import StopSignal
from lora_trainer.storage.location import Location, Removal
from lora_trainer.termination import Outcome

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
"""What Kubernetes takes as a name: no slash, and no dots alone, which would lead out of the folder."""


def cleanup(context: Context) -> Outcome:
    """Remove the folder of the job. Raises `TrainerError` as `storage` explains it, and 75 after a signal."""
    folder = job_folder(context)
    log("removing artifacts", uri=folder.uri)
    try:
        with context.stop.deferred():  # the S3 client would take what a signal raises for trouble of the network
            removal, note = context.storage.clear(folder, MANIFEST_NAME, lambda: _check(context.stop)), ""
    except TrainerError as error:
        if error.exit_code != ExitCode.INPUT_NOT_FOUND:
            raise
        removal, note = Removal(), f"; the bucket {folder.bucket} does not exist"
    return Outcome(ExitCode.DONE, _last_words(folder, removal, note))


def job_folder(context: Context) -> Location:
    """Return the folder that holds the artifacts of all runs of the job. Raises 64 where a name leads out of it."""
    for field, name in (("namespace", context.job.namespace), ("name", context.job.name)):
        if not _NAME.fullmatch(name):
            raise invalid_request(f"{field}: {name!r} is no name of Kubernetes", "correct the job file")
    return context.output(context.layout.root)


def _check(stop: StopSignal) -> None:
    if stop.requested:
        raise TrainerError(ExitCode.INTERRUPTED, f"stopped by {stop.name}", "the next attempt removes what is left")


def _last_words(folder: Location, removal: Removal, note: str) -> TerminationMessage:
    message = f"Removed {removal.files} files, {removal.bytes / 1e6:.1f} MB, under {folder.uri}{note}"
    if removal.versions_stay:
        message += "; the bucket is versioned and keeps the older versions until its lifecycle rules remove them"
    return TerminationMessage(reason=Reason.ARTIFACTS_REMOVED.value, message=message)
