"""The last words of the process: any exception to an exit code, and the message to where it is read.

In a pod the kubelet reads /dev/termination-log; on a laptop there is none, and one line on stderr says the same.
"""

import errno
import sys
from pathlib import Path

from lora_api.exit_codes import ExitCode
from lora_api.messages import TerminationMessage
from lora_api.names import TERMINATION_LOG_PATH
from lora_api.reasons import REASON_OF_EXIT_CODE
from lora_trainer.errors import TrainerError, internal


def as_trainer_error(error: BaseException) -> TrainerError:
    """Return the foreseen error that an exception stands for.

    Of an unknown exception only the type is told: its text may quote the user's data.
    """
    if isinstance(error, TrainerError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TrainerError(ExitCode.DISK_FULL, "the scratch volume is full", "raise spec.resources.scratch")
    if _is_out_of_gpu_memory(error):
        return TrainerError(
            ExitCode.OUT_OF_GPU_MEMORY,
            "the GPU ran out of memory",
            "lower spec.training.maxLength or spec.lora.rank, or use a GPU with more memory",
        )
    return internal(
        f"unexpected {type(error).__name__}; the log names the places in the code",
        "report it with the log of the pod",
    )


def failure_message(error: TrainerError, step: int | None) -> TerminationMessage:
    """Return the termination message of a failure."""
    reason = REASON_OF_EXIT_CODE[error.exit_code].value
    return TerminationMessage(reason=reason, message=error.message, hint=error.hint, step=step)


def write_termination_message(message: TerminationMessage, path: Path = Path(TERMINATION_LOG_PATH)) -> None:
    """Write the message to the termination log, or as one line to stderr where there is none."""
    try:
        with path.open("r+b") as file:  # never create it: a laptop has no such file
            file.truncate()
            file.write(message.encode())
    except OSError:
        hint = f" ({message.hint})" if message.hint else ""
        print(f"lora-trainer: {message.reason}: {message.message}{hint}", file=sys.stderr)


def _is_out_of_gpu_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # not imported here: a preflight has no torch
    return torch is not None and isinstance(error, torch.cuda.OutOfMemoryError)
