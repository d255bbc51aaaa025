"""LoRAJob status: what the operator observed. Written by the operator alone, by server-side apply.

`phase` is a summary for people, derived from the conditions and never read back.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from lora_api.base import StatusModel
from lora_api.conditions import ConditionList
from lora_api.messages import AdapterResult, Progress, Resolved, SavedCheckpoint


class Phase(StrEnum):
    """Summary of the conditions for people."""

    PENDING = "Pending"
    PREFLIGHT = "Preflight"
    SCHEDULING = "Scheduling"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SUSPENDED = "Suspended"
    STALLED = "Stalled"


class Attempts(StatusModel):
    """How often the run was tried."""

    failures: int = 0
    """Attempts that failed."""
    disruptions: int = 0
    """Attempts that were evicted, pre-empted or lost with their node."""


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
    """Reason of the condition that the phase comes from, for `kubectl get -o wide`."""
    run: int | None = None
    """Number of the run, from 1."""
    spec_digest: str | None = None
    """Digest of the fields that decide the result, of this run."""
    start_time: datetime | None = None
    """When the run was accepted."""
    completion_time: datetime | None = None
    """When the run ended."""
    attempts: Attempts | None = None
    """How often the run was tried."""
    resolved: Resolved | None = None
    """What the request turned out to mean."""
    progress: Progress | None = None
    """How far the training is."""
    checkpoint: SavedCheckpoint | None = None
    """The newest complete checkpoint, of any attempt: the next attempt goes on from it."""
    failure: Failure | None = None
    """Why the job failed or cannot go on."""
    adapter: AdapterResult | None = None
    """The published adapter, also one that did not pass the gate."""
    adapter_digest_short: str | None = None
    """First twelve digits of the adapter's digest, for `kubectl get`."""
    history: Annotated[list[RunRecord], Field(max_length=10)] = []
    """Earlier runs, newest first."""
