"""The one error that ends a trainer on purpose.

Every foreseen failure becomes a `TrainerError` at the place that knows the field, the value and the fix. Nothing below
`cli` calls `sys.exit`, and no message carries a row of data or a secret.
"""

from lora_api.exit_codes import ExitCode


class TrainerError(Exception):
    """A foreseen end: `exit_code` for the operator, `message` and `hint` for the user."""

    def __init__(self, exit_code: ExitCode, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class OutOfGpuMemoryError(TrainerError):
    """A device ran out of memory (71). `can_shrink` is whether a smaller micro-batch is left to try."""

    def __init__(self, *, can_shrink: bool = False) -> None:
        super().__init__(
            ExitCode.OUT_OF_GPU_MEMORY,
            "the GPU ran out of memory with one row at a time",
            "lower spec.training.maxLength or spec.lora.rank, set spec.training.activationCheckpointing: Always, "
            "set spec.quantization, or use a GPU with more memory",
        )
        self.can_shrink = can_shrink


class LostTouchError(TrainerError):
    """Other processes of the run no longer answer: the consequence of a failure that is not this process's own (75).

    Its launcher knows what has gone, and says so.
    """

    def __init__(self) -> None:
        super().__init__(
            ExitCode.INTERRUPTED,
            "other processes of this run have gone",
            "the next attempt goes on from the newest checkpoint",
        )


def invalid_request(message: str, hint: str = "") -> TrainerError:
    """Return the error of a job file that asks for something impossible or unsupported (64)."""
    return TrainerError(ExitCode.INVALID_REQUEST, message, hint)


def bad_data(message: str, hint: str = "") -> TrainerError:
    """Return the error of a data set that does not parse or does not match the task (65)."""
    return TrainerError(ExitCode.BAD_DATA, message, hint)


def not_found(message: str, hint: str = "") -> TrainerError:
    """Return the error of a base model, data set or bucket that is not there (66)."""
    return TrainerError(ExitCode.INPUT_NOT_FOUND, message, hint)


def diverged(message: str, hint: str = "") -> TrainerError:
    """Return the error of a NaN, infinite or exploding loss (80)."""
    return TrainerError(ExitCode.DIVERGED, message, hint)


def stalled(message: str) -> TrainerError:
    """Return the error of a training that no longer gets on (82)."""
    return TrainerError(
        ExitCode.STALLED,
        message,
        "the next attempt goes on from the newest checkpoint; log.jsonl of the run has the stacks of all threads; "
        "if the work was only slow, raise spec.failurePolicy.stallTimeoutSeconds",
    )


def internal(message: str, hint: str = "") -> TrainerError:
    """Return the error of something that should not happen (70)."""
    return TrainerError(ExitCode.INTERNAL_ERROR, message, hint)
