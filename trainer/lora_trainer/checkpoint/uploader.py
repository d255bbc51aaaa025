"""Saves checkpoints beside the training, which waits only while its state is copied.

One thread uploads. What it cannot upload never ends a training that runs: a server that does not answer is tried again,
one that refuses is not, and both are told in the log; the next checkpoint is a new chance.
"""

import threading
import time
from collections.abc import Callable

from lora_api.exit_codes import PERMANENT
from lora_api.messages import SavedCheckpoint
from lora_trainer.checkpoint.state import TrainingState
from lora_trainer.checkpoint.store import CheckpointStore
from lora_trainer.context import Context
from lora_trainer.errors import TrainerError
from lora_trainer.logs import warn
from lora_trainer.records import upload_records
from lora_trainer.termination import as_trainer_error

_LONGEST_PAUSE_SECONDS = 60.0
_HURRIED_PAUSE_SECONDS = 0.5


class BackgroundUploader:
    """Uploads one checkpoint after the other; of those that wait, only the newest.

    `saved` is called in the uploading thread with each one that is complete.
    """

    def __init__(self, store: CheckpointStore, saved: Callable[[SavedCheckpoint], None]) -> None:
        self._store, self._saved = store, saved
        self._changed = threading.Condition()
        self._waiting: TrainingState | None = None
        self._running = False
        self._hurried = False
        self._failures = 0
        self._thread: threading.Thread | None = None
        self.last: SavedCheckpoint | None = None
        """Newest checkpoint that this process completed."""
        self.failure: TrainerError | None = None
        """Why the last upload failed; None when it did not."""

    def save(self, state: TrainingState) -> float:
        """Copy the state and hand it to the thread. Return the seconds that the caller waited."""
        started = time.monotonic()
        snapshot = state.snapshot()
        with self._changed:
            self._waiting = snapshot
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
            self._thread.start()
        return time.monotonic() - started

    def drain(self, timeout_seconds: float) -> bool:
        """Wait until everything that was handed over is stored; return whether it is. See `failure` when it is not."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()
            idle = self._changed.wait_for(lambda: self._waiting is None and not self._running, timeout_seconds)
            self._hurried = False
        if not idle:
            warn("a checkpoint was not stored in time", seconds=timeout_seconds)
        return idle and self.failure is None

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None)
                snapshot, self._waiting, self._running = self._waiting, None, True
            assert snapshot is not None  # noqa: S101 - only this thread takes it
            again = self._upload(snapshot)
            with self._changed:
                if again and self._waiting is None:
                    self._waiting = snapshot
                self._running = False
                self._changed.notify_all()
            if again:
                self._pause()

    def _upload(self, snapshot: TrainingState) -> bool:
        """Store a snapshot; return whether it failed in a way that another try may mend."""
        try:
            saved = self._store.save(snapshot)
        except Exception as caught:
            return self._failed(snapshot.step, as_trainer_error(caught))
        self._failures, self.failure, self.last = 0, None, saved
        self._finish(saved)
        return False

    def _failed(self, step: int, error: TrainerError) -> bool:
        again = error.exit_code not in PERMANENT
        self._failures, self.failure = self._failures + 1, error
        warn("a checkpoint was not saved", step=step, reason=str(error), triedAgain=again)
        return again

    def _finish(self, saved: SavedCheckpoint) -> None:
        try:
            self._saved(saved)
            self._store.prune()
        except Exception as caught:
            warn("old checkpoints were not removed", reason=str(as_trainer_error(caught)))

    def _pause(self) -> None:
        with self._changed:
            hurried = self._changed.wait_for(lambda: self._hurried, pause_seconds(self._failures))
        if hurried:
            time.sleep(_HURRIED_PAUSE_SECONDS)


def announce(context: Context) -> Callable[[SavedCheckpoint], None]:
    """Return what follows a complete checkpoint: progress and last words name it, and the records are stored."""

    def saved(checkpoint: SavedCheckpoint) -> None:
        context.progress.update(checkpoint=checkpoint)
        context.stop.checkpoint_step = checkpoint.step
        upload_records(context)

    return saved


def pause_seconds(failures: int) -> float:
    """Return how long to wait after so many failures in a row: 1, 2, 4 seconds, and at most a minute."""
    return min(2.0 ** min(failures - 1, 6), _LONGEST_PAUSE_SECONDS)
