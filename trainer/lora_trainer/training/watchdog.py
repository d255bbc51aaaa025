"""Ends a process that no longer gets on: a hung collective, a dead data source, a lost device.

A thread that looks at the time of the last sign of life. It cannot mend anything; it leaves the stacks in the log and
ends the process, so that the next attempt goes on from the last checkpoint.
"""

import sys
import threading
import traceback
from collections.abc import Callable

from lora_trainer.logs import logger
from lora_trainer.progress import ProgressState

_CHECKS_A_TIMEOUT = 10


class Watchdog:
    """Calls `give_up` once, from its own thread, when there was no sign of life for `timeout_seconds`."""

    def __init__(self, progress: ProgressState, timeout_seconds: float, give_up: Callable[[str], None]) -> None:
        self._progress, self._timeout, self._give_up = progress, timeout_seconds, give_up
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop to watch."""
        self._done.set()

    def is_silent(self) -> bool:
        """Whether the last sign of life is too long ago."""
        return self._progress.silent_seconds > self._timeout

    def _watch(self) -> None:
        while not self._done.wait(self._timeout / _CHECKS_A_TIMEOUT):
            if self.is_silent():
                silent = self._progress.silent_seconds
                logger.error("no sign of life", extra={"fields": {"seconds": round(silent), "stacks": stacks()}})
                self._give_up(
                    f"nothing got on for {silent:.0f} s, while it was {self._progress.current.activity.value}"
                )
                return


def stacks() -> dict[str, list[str]]:
    """Return where each thread is: file, line and function, and nothing of its values."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        names.get(ident, str(ident)): [f"{each.filename}:{each.lineno} {each.name}" for each in _frames(frame)]
        for ident, frame in sys._current_frames().items()  # noqa: SLF001 - the documented way to see other threads
    }


def _frames(frame: object) -> list[traceback.FrameSummary]:
    return traceback.extract_stack(frame, limit=12)  # type: ignore[arg-type]
