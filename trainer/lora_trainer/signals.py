"""SIGTERM and SIGINT, turned into one flag and one error.

Where stopping at once loses nothing, the signal raises `InterruptionError` right there. Where it would tear something
apart (an optimizer step, a publication), the code is `deferred` and looks at the flag at its next boundary. A second
signal is never deferred.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lora_api.exit_codes import ExitCode
from lora_trainer.errors import TrainerError


class InterruptionError(TrainerError):
    """A signal stopped the process (75). `checkpoint_step` is that of the newest checkpoint known to be complete."""

    def __init__(self, message: str, checkpoint_step: int | None = None) -> None:
        if checkpoint_step is None:
            # Said without knowing: the signal may come before anything has looked for checkpoints.
            hint = "this attempt saved no checkpoint; the next one goes on from an earlier one, or from the beginning"
        else:
            hint = f"the checkpoint of step {checkpoint_step} is saved; the next attempt goes on from it"
        super().__init__(ExitCode.INTERRUPTED, message, hint)


class StopSignal:
    """The flag that a signal sets, and the decision whether it raises."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.checkpoint_step: int | None = None
        """Step of the newest checkpoint that is known to be complete, for the last words."""
        self._deferred = False

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self.name is not None

    def install(self) -> None:
        """Handle SIGTERM and SIGINT in this process. Main thread only."""
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)

    def ignore(self) -> None:
        """Ignore both from now on: the process is writing its last words."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the first signal only set the flag while the block runs; the block looks at it itself."""
        before, self._deferred = self._deferred, True
        try:
            yield
        finally:
            self._deferred = before

    def request(self, name: str) -> None:
        """Do what the signal `name` does."""
        again = self.requested
        self.name = name
        if again or not self._deferred:
            raise InterruptionError(f"stopped by {name}", self.checkpoint_step)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.request(signal.Signals(number).name)
