"""Condition types and reasons: every word that a user can meet in `status.conditions`, `status.failure` or an event.

Reasons are part of the API: alerts and scripts match on them. `docs/reasons.md` explains each one, and a test holds
page and enum together.
"""

from enum import StrEnum

from lora_api.exit_codes import ExitCode


class ConditionType(StrEnum):
    """Types of conditions, in the order of a job's life."""

    PREFLIGHT_PASSED = "PreflightPassed"
    SCHEDULED = "Scheduled"
    RUNNING = "Running"
    ADMITTED = "Admitted"
    """Kueue lets the training start. Only there with `spec.scheduling.queueName`."""
    OVERFITTING = "Overfitting"
    """The model memorizes: a warning, which ends nothing. Not there before the first evaluation."""
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SUSPENDED = "Suspended"
    STALLED = "Stalled"
    """The user must act: the operator does not retry until the object changes."""

    COMPATIBLE = "Compatible"
    LOADED = "Loaded"
    READY = "Ready"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"


class Reason(StrEnum):
    """Reasons of conditions, failures and events."""

    # The straight path.
    ACCEPTED = "Accepted"
    PREFLIGHT_RUNNING = "PreflightRunning"
    PREFLIGHT_SUCCEEDED = "PreflightSucceeded"
    PREFLIGHT_SKIPPED = "PreflightSkipped"
    PREFLIGHT_WARNING = "PreflightWarning"
    WAITING_FOR_POD = "WaitingForPod"
    POD_SCHEDULED = "PodScheduled"
    TRAINING = "Training"
    RETRYING = "Retrying"
    MICRO_BATCH_REDUCED = "MicroBatchReduced"
    NO_OVERFITTING = "NoOverfitting"
    EVALUATION_LOSS_RISING = "EvaluationLossRising"
    FINISHED = "Finished"
    ADAPTER_PUBLISHED = "AdapterPublished"

    # Stopped, queued, started anew, removed: nothing is wrong.
    SUSPENDING = "Suspending"
    SUSPENDED_BY_USER = "SuspendedByUser"
    RESUMED = "Resumed"
    RESTARTING = "Restarting"
    NEW_RUN = "NewRun"
    QUEUED = "Queued"
    ADMITTED = "Admitted"
    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"
    REMOVING_ARTIFACTS = "RemovingArtifacts"
    ARTIFACTS_REMOVED = "ArtifactsRemoved"

    # The request cannot work as it stands.
    INVALID_SPEC = "InvalidSpec"
    NOT_ALLOWED = "NotAllowed"
    NAME_CONFLICT = "NameConflict"

    # The cluster does not let a pod start.
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - the name of a reason
    SERVICE_ACCOUNT_NOT_FOUND = "ServiceAccountNotFound"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    UNSCHEDULABLE = "Unschedulable"
    POD_REFUSED = "PodRefused"
    QUOTA_EXCEEDED = "QuotaExceeded"
    CLAIM_NOT_FOUND = "ClaimNotFound"
    CLEANUP_FAILED = "CleanupFailed"

    # The trainer's own ends, one for each exit code.
    INVALID_REQUEST = "InvalidRequest"
    BAD_DATA = "BadData"
    INPUT_NOT_FOUND = "InputNotFound"
    SERVICE_UNAVAILABLE = "ServiceUnavailable"
    INTERNAL_ERROR = "InternalError"
    OUT_OF_GPU_MEMORY = "OutOfGPUMemory"
    DISK_FULL = "DiskFull"
    INTERRUPTED = "Interrupted"
    NO_PERMISSION = "NoPermission"
    DIVERGED = "Diverged"
    GATE_NOT_PASSED = "GateNotPassed"
    TRAINING_STALLED = "TrainingStalled"

    # Delivery to inference pods: the straight path.
    NO_PODS = "NoPods"
    CANARY = "Canary"
    ROLLING_OUT = "RollingOut"
    ROLLED_OUT = "RolledOut"
    SERVED = "Served"
    PINNED = "Pinned"
    UNLOADING = "Unloading"
    UNLOADED = "Unloaded"
    COMPATIBLE = "Compatible"
    NOT_KNOWN_YET = "NotKnownYet"
    LOADING = "Loading"

    # Delivery: what went wrong.
    ROLLED_BACK = "RolledBack"
    PIN_NOT_FOUND = "PinNotFound"
    NOT_INJECTED = "NotInjected"
    ENGINE_FLAGS_MISSING = "EngineFlagsMissing"
    POD_UNREACHABLE = "PodUnreachable"
    DIGEST_MISMATCH = "DigestMismatch"
    NOT_AN_ADAPTER = "NotAnAdapter"
    INCOMPATIBLE = "Incompatible"
    ENGINE_REFUSED = "EngineRefused"
    ENGINE_UNREACHABLE = "EngineUnreachable"
    NO_EFFECT = "NoEffect"
    SAMPLES_DIFFER = "SamplesDiffer"
    ROLLOUT_TIMEOUT = "RolloutTimeout"

    # The pod ended without a word of the trainer.
    OUT_OF_MEMORY = "OutOfMemory"
    POD_LOST = "PodLost"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    TOO_MANY_DISRUPTIONS = "TooManyDisruptions"
    UNKNOWN_FAILURE = "UnknownFailure"


REASON_OF_EXIT_CODE: dict[ExitCode, Reason] = {
    ExitCode.INVALID_REQUEST: Reason.INVALID_REQUEST,
    ExitCode.BAD_DATA: Reason.BAD_DATA,
    ExitCode.INPUT_NOT_FOUND: Reason.INPUT_NOT_FOUND,
    ExitCode.SERVICE_UNAVAILABLE: Reason.SERVICE_UNAVAILABLE,
    ExitCode.INTERNAL_ERROR: Reason.INTERNAL_ERROR,
    ExitCode.OUT_OF_GPU_MEMORY: Reason.OUT_OF_GPU_MEMORY,
    ExitCode.DISK_FULL: Reason.DISK_FULL,
    ExitCode.INTERRUPTED: Reason.INTERRUPTED,
    ExitCode.NO_PERMISSION: Reason.NO_PERMISSION,
    ExitCode.DIVERGED: Reason.DIVERGED,
    ExitCode.GATE_NOT_PASSED: Reason.GATE_NOT_PASSED,
    ExitCode.STALLED: Reason.TRAINING_STALLED,
}
