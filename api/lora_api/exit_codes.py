"""Exit codes of the trainer: the whole protocol between a dying pod and the operator.

They follow sysexits.h where it has a word for the case. The pod failure policy of the Jobs is built from the sets
below, so a new code needs nothing else than a line here.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a trainer process says about its end."""

    DONE = 0
    INVALID_REQUEST = 64
    """The job file asks for something that is impossible or not supported."""
    BAD_DATA = 65
    """The data set does not parse or does not match the task."""
    INPUT_NOT_FOUND = 66
    """A base model, data set or bucket does not exist."""
    SERVICE_UNAVAILABLE = 69
    """S3 or the hub did not answer, after retries."""
    INTERNAL_ERROR = 70
    OUT_OF_GPU_MEMORY = 71
    """Out of GPU memory at the smallest micro-batch."""
    DISK_FULL = 74
    INTERRUPTED = 75
    """A signal stopped the process, and a checkpoint was saved where there was one to save."""
    NO_PERMISSION = 77
    """Wrong or missing credentials, or a gated model."""
    DIVERGED = 80
    """NaN, infinite or exploding loss."""
    GATE_NOT_PASSED = 81
    """Trained and published, but not better than the base by the asked margin."""
    STALLED = 82
    """No step was finished within the stall timeout: a hung collective, a dead data source, a lost device."""


PERMANENT: frozenset[ExitCode] = frozenset(
    {
        ExitCode.INVALID_REQUEST,
        ExitCode.BAD_DATA,
        ExitCode.INPUT_NOT_FOUND,
        ExitCode.NO_PERMISSION,
        ExitCode.DIVERGED,
        ExitCode.GATE_NOT_PASSED,
    }
)
"""Codes that end the job at once: the same attempt would end the same way."""

DISRUPTIONS: frozenset[ExitCode] = frozenset({ExitCode.INTERRUPTED})
"""Codes that count as disruptions, never as failures."""
