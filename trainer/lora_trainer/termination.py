"""The last words of the process: any exception to an exit code, and the message to where it is read.

In a pod the kubelet reads /dev/termination-log; on a laptop there is none, and one line on stderr says the same.
"""

import errno
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from lora_api.exit_codes import ExitCode
from lora_api.loss_curve import CurvePoint
from lora_api.messages import Progress, TerminationMessage
from lora_api.names import TERMINATION_LOG_PATH, TERMINATION_LOG_VARIABLE
from lora_api.reasons import REASON_OF_EXIT_CODE
from lora_trainer.errors import LostTouchError, OutOfGpuMemoryError, TrainerError, internal


@dataclass(frozen=True)
class Outcome:
    """The end of a process: what it says to the operator."""

    code: ExitCode
    message: TerminationMessage
    can_shrink: bool = False
    """Whether a smaller micro-batch is left to try after an out-of-memory."""
    consequence: bool = False
    """Whether it only follows from the end of another process of the run."""


def as_trainer_error(error: BaseException) -> TrainerError:
    """Return the foreseen error that an exception stands for.

    Of an unknown exception only the type is told: its text may quote the user's data.
    """
    if isinstance(error, TrainerError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TrainerError(ExitCode.DISK_FULL, "the scratch volume is full", "raise spec.resources.scratch")
    if _is_out_of_gpu_memory(error):
        return OutOfGpuMemoryError()
    if _is_lost_touch(error):
        return LostTouchError()
    return internal(
        f"unexpected {type(error).__name__}; the log names the places in the code",
        "report it with the log of the pod",
    )


def failure_message(error: TrainerError, step: int | None) -> TerminationMessage:
    """Return the termination message of a failure."""
    reason = REASON_OF_EXIT_CODE[error.exit_code].value
    return TerminationMessage(reason=reason, message=error.message, hint=error.hint, step=step)


def with_findings(
    message: TerminationMessage, progress: Progress, curve: list[CurvePoint] | None
) -> TerminationMessage:
    """Return the last words with what else the operator should keep: checkpoint, micro-batch, alarm, loss curve."""
    alarm = progress.overfitting or ("" if progress.eval_loss is not None else None)
    found = {"checkpoint": progress.checkpoint, "micro_batch_size": progress.micro_batch_size, "overfitting": alarm}
    return message.model_copy(update=found | {"loss_curve": curve})


def write_termination_message(message: TerminationMessage, path: Path | None = None) -> None:
    """Write the message to the termination log, or as one line to stderr where there is none."""
    path = path or Path(os.environ.get(TERMINATION_LOG_VARIABLE, TERMINATION_LOG_PATH))
    try:
        with path.open("r+b") as file:  # never create it: a laptop has no such file
            file.truncate()
            file.write(message.encode())
    except OSError:
        hint = f" ({message.hint})" if message.hint else ""
        print(f"lora-trainer: {message.reason}: {message.message}{hint}", file=sys.stderr)


def _is_out_of_gpu_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # not imported here: a preflight has no torch
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def _is_lost_touch(error: BaseException) -> bool:
    """Whether a collective of torch failed: gloo tells it as a RuntimeError that names its transport."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available() or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return False
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and "gloo/transport" in str(error)
    )
