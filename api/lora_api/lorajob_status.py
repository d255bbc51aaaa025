"""LoRAJob status: what the operator observed. Written by the operator alone, by server-side apply.

`phase` is a summary for people, derived from the conditions and never read back.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from lora_api.base import StatusModel
from lora_api.conditions import ConditionList
from lora_api.loss_curve import MAX_CURVE_POINTS, CurvePoint
from lora_api.messages import AdapterResult, Progress, Resolved, SavedCheckpoint

MAX_HISTORY: Final = 10
"""Earlier runs in the status."""


class Phase(StrEnum):
    """Summary of the conditions for people."""

    PENDING = "Pending"
    PREFLIGHT = "Preflight"
    QUEUED = "Queued"
    SCHEDULING = "Scheduling"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SUSPENDED = "Suspended"
    STALLED = "Stalled"


class Attempts(StatusModel):
    """How often the run was tried.

    Pods may vanish before anybody looks at them, so an attempt is counted when its pod is first seen, and what ended
    without being a failure was a disruption. What earlier training Jobs of the run had is kept apart, because each Job
    counts from zero.
    """

    failures: int = 0
    """Attempts that failed."""
    disruptions: int = 0
    """Attempts that were interrupted, evicted, pre-empted, or lost with their node."""
    job: str | None = None
    """Uid of the training Job whose pods are counted."""
    pods: int = 0
    """Attempts that this Job has started."""
    newest: str | None = None
    """Creation time and uid of the newest pod that was counted."""
    earlier_failures: int = 0
    """Failures under earlier Jobs of the run."""
    earlier_disruptions: int = 0
    """Disruptions under earlier Jobs of the run."""


class Failure(StatusModel):
    """Why the job failed or cannot go on, and what to change."""

    reason: str
    exit_code: int | None = None
    message: str = ""
    hint: str = ""


class RunRecord(StatusModel):
    """One earlier run."""

    run: int
    result: str
    """Succeeded, Failed, or Superseded by a changed spec before it had ended."""
    reason: str | None = None
    """Why it failed."""
    digest: str | None = None
    finished_time: datetime | None = None


class LoRAJobStatus(StatusModel):
    """What the operator observed."""

    observed_generation: int | None = None
    """Generation that this status speaks of."""
    conditions: ConditionList = []
    """Observations, one of a type."""
    phase: Phase | None = None
    """Summary for people; read the conditions instead."""
    reason: str | None = None
    """Reason of the condition that the phase comes from, for `kubectl get`."""
    run: int | None = None
    """Number of the run, from 1."""
    spec_digest: str | None = None
    """Digest of the fields that decide the result, of this run."""
    spec_generation: int | None = None
    """Generation that this digest is of."""
    restart: str | None = None
    """Value of the annotation lora-operator.io/restart that this run answers."""
    attempt_digest: str | None = None
    """Digest of the fields that the pods of the run were made of last."""
    attempt_generation: int | None = None
    """Generation that this digest is of."""
    start_time: datetime | None = None
    """When the run was accepted. Its deadline counts from here, however often it is suspended."""
    completion_time: datetime | None = None
    """When the run ended."""
    attempts: Attempts | None = None
    """How often the run was tried."""
    resolved: Resolved | None = None
    """What the request turned out to mean."""
    progress: Progress | None = None
    """How far the training is."""
    loss_curve: Annotated[list[CurvePoint], Field(max_length=MAX_CURVE_POINTS)] = []
    """Losses over the steps, evenly thinned out as the run goes on."""
    checkpoint: SavedCheckpoint | None = None
    """The newest complete checkpoint, of any attempt: the next attempt goes on from it."""
    failure: Failure | None = None
    """Why the job failed or cannot go on."""
    adapter: AdapterResult | None = None
    """The published adapter, also one that did not pass the gate."""
    adapter_digest_short: str | None = None
    """First twelve digits of the adapter's digest, for `kubectl get`."""
    history: Annotated[list[RunRecord], Field(max_length=MAX_HISTORY)] = []
    """Earlier runs, newest first."""
