"""What ends a training from outside its own thread, which may be stuck where no signal reaches it.

Two things do: nothing got on for too long, or the launcher says that other processes of the run have gone. Either way
the newest state is stored as far as time allows, the last words are left, and the process ends. It never raises.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from lora_trainer.checkpoint.uploader import BackgroundUploader
from lora_trainer.context import Context
from lora_trainer.errors import LostTouchError, TrainerError, stalled
from lora_trainer.launch import is_first, is_worker, leave_last_words
from lora_trainer.measured import measured_curve
from lora_trainer.records import upload_records
from lora_trainer.termination import Outcome, failure_message, with_findings
from lora_trainer.training.watchdog import Watchdog
from lora_trainer.workers import GONE_NAME, OUTCOMES_VARIABLE

_DRAIN_SECONDS, _RECORDS_SECONDS = 30.0, 15.0
"""Together shorter than `workers.FAREWELL_SECONDS`."""
_LOOK_SECONDS = 0.5
_ENDING = threading.Lock()


@contextmanager
def watched(context: Context, uploader: BackgroundUploader | None) -> Iterator[None]:
    """End the process when nothing gets on for the time that the job allows, or others have gone.

    A failure of the block itself goes on as it is, after the checkpoint under way is stored.
    """

    def give_up(message: str) -> None:
        _end(context, uploader, stalled(message))

    done = threading.Event()
    watchdog = Watchdog(context.progress, context.job.spec.failure_policy.stall_timeout_seconds, give_up)
    watchdog.start()
    if is_worker(os.environ):
        threading.Thread(target=_watch_others, args=(context, uploader, done), name="others", daemon=True).start()
    try:
        yield
    except BaseException:
        if uploader is not None:
            uploader.drain(_DRAIN_SECONDS)
        raise
    finally:
        watchdog.stop()
        done.set()


def _watch_others(context: Context, uploader: BackgroundUploader | None, done: threading.Event) -> None:
    gone, launcher = Path(os.environ[OUTCOMES_VARIABLE]) / GONE_NAME, os.getppid()
    while not done.wait(_LOOK_SECONDS):
        if gone.exists() or os.getppid() != launcher:
            _end(context, uploader, LostTouchError())


def _end(context: Context, uploader: BackgroundUploader | None, error: TrainerError) -> NoReturn:
    """Leave the last words of the process and end it."""
    with _ENDING:  # whoever comes first; the other never returns
        if uploader is not None:
            uploader.drain(_DRAIN_SECONDS)
        if is_first(os.environ):
            records = threading.Thread(target=upload_records, args=(context,), daemon=True)
            records.start()
            records.join(_RECORDS_SECONDS)  # S3 may be what is stuck
        message = failure_message(error, context.progress.current.step or None)
        message = with_findings(message, context.progress.current, measured_curve(context.workspace.metrics))
        consequence = isinstance(error, LostTouchError)
        with suppress(OSError):  # the folder is gone with the launcher
            leave_last_words(Outcome(error.exit_code, message, consequence=consequence))
        os._exit(error.exit_code)
