"""What one pass found out that is worth a number: waits, durations, failures, sizes.

Everything is the difference between two statuses, so each is counted once in a run, whoever makes the pass and however
often the operator starts anew. Nothing is remembered, nothing is decided, and no label names a job.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from lora_api.conditions import Condition, find_condition, is_true
from lora_api.lorajob_status import Attempts, LoRAJobStatus
from lora_api.names import STAGE_LABEL
from lora_api.reasons import ConditionType, Reason
from lora_operator.domain.observed import Document, ObservedJob, Stage
from lora_operator.domain.status import is_finished


class Measured(StrEnum):
    """Quantities. Seconds unless it is said otherwise."""

    TIME_TO_JOB = "TimeToJob"
    """From apply to the first Job of a stage; the label is the stage."""
    TIME_TO_FIRST_STEP = "TimeToFirstStep"
    """From apply until the first optimizer step was heard of."""
    QUEUE_WAIT = "QueueWait"
    """In the queue of Kueue."""
    NODE_WAIT = "NodeWait"
    """Without a node."""
    RUN = "Run"
    """From acceptance to the end of a run; the label is its result."""
    FAILURE = "Failure"
    """Runs that failed for good; the label is the reason."""
    STALL = "Stall"
    """Jobs that began to wait for their user; the label is the reason."""
    FAILED_ATTEMPT = "FailedAttempt"
    """Attempts that failed."""
    DISRUPTION = "Disruption"
    """Attempts that were interrupted from outside."""
    ADAPTER = "Adapter"
    """Bytes of a published adapter."""


class Measure(NamedTuple):
    """One number."""

    what: Measured
    value: float
    label: str = ""


class Result(StrEnum):
    """How a run ended, in the words of `status.history`."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SUPERSEDED = "Superseded"


def measures(
    before: LoRAJobStatus, after: LoRAJobStatus, job: ObservedJob, now: datetime, made: Iterable[Document] = ()
) -> list[Measure]:
    """Return what a pass found out between two statuses. `made` are the objects that it has created.

    To be called with the time after the writes, and only if they succeeded: a pass that failed is made again.
    """
    if after.run is not None and before.run is not None and after.run != before.run:
        return list(_superseded(before, now))  # the fields of another run tell nothing about this one
    return [
        *_time_to_job(before, after, job, now, made),
        *_first_step(before, after, job, now),
        *_waits(before, after, now),
        *_attempts(before.attempts or Attempts(), after.attempts or Attempts()),
        *_stall(before, after),
        *_end(before, after, now),
        *_adapter(before, after),
    ]


def _superseded(before: LoRAJobStatus, now: datetime) -> Iterator[Measure]:
    if not is_finished(before) and before.start_time is not None:
        yield Measure(Measured.RUN, _seconds(before.start_time, now), Result.SUPERSEDED)


def _time_to_job(
    before: LoRAJobStatus, after: LoRAJobStatus, job: ObservedJob, now: datetime, made: Iterable[Document]
) -> Iterator[Measure]:
    """Yield the time until the first Job of a stage. One made again after a suspension is not the first."""
    begun = _asked_for(after, job)
    for document in (each for each in made if each.get("kind") == "Job"):
        stage = (document["metadata"].get("labels") or {}).get(STAGE_LABEL)
        if begun is not None and stage in _FIRST and _FIRST[stage](before) and not _has_failed(before):
            yield Measure(Measured.TIME_TO_JOB, _seconds(begun, now), stage)


def _has_failed(before: LoRAJobStatus) -> bool:
    """Return whether the run failed and goes on with a corrected spec, which begins its counts anew."""
    return find_condition(before.conditions, ConditionType.FAILED) is not None


def _no_preflight_yet(before: LoRAJobStatus) -> bool:
    found = find_condition(before.conditions, ConditionType.PREFLIGHT_PASSED)
    return found is None or found.reason == Reason.ACCEPTED


def _no_training_yet(before: LoRAJobStatus) -> bool:
    return before.attempts is None or before.attempts.job is None


_FIRST = {Stage.PREFLIGHT.value: _no_preflight_yet, Stage.TRAIN.value: _no_training_yet}


def _first_step(before: LoRAJobStatus, after: LoRAJobStatus, job: ObservedJob, now: datetime) -> Iterator[Measure]:
    """Yield the time until the loss curve has begun. It stays through all attempts of a run, unlike the progress.

    A running pod tells one point at a time. A curve that comes as a whole is that of a pod which has ended, and nobody
    knows when it began.
    """
    begun, heard = _asked_for(after, job), len(after.loss_curve) == 1 and not is_finished(after)
    if begun is not None and heard and not before.loss_curve:
        yield Measure(Measured.TIME_TO_FIRST_STEP, _seconds(begun, now))


def _asked_for(status: LoRAJobStatus, job: ObservedJob) -> datetime | None:
    """Return when the user asked for the run: the apply of the first one, and the acceptance of a later one."""
    return job.created or status.start_time if (status.run or 1) == 1 else status.start_time


def _waits(before: LoRAJobStatus, after: LoRAJobStatus, now: datetime) -> Iterator[Measure]:
    for kind, what in ((ConditionType.ADMITTED, Measured.QUEUE_WAIT), (ConditionType.SCHEDULED, Measured.NODE_WAIT)):
        waited = find_condition(before.conditions, kind)
        if waited is not None and waited.status == "False" and is_true(after.conditions, kind):
            yield Measure(what, _seconds(waited.last_transition_time, now))


def _attempts(before: Attempts, after: Attempts) -> Iterator[Measure]:
    if after.failures > before.failures:
        yield Measure(Measured.FAILED_ATTEMPT, after.failures - before.failures)
    if after.disruptions > before.disruptions:
        yield Measure(Measured.DISRUPTION, after.disruptions - before.disruptions)


def _stall(before: LoRAJobStatus, after: LoRAJobStatus) -> Iterator[Measure]:
    stalled = _became_true(before, after, ConditionType.STALLED)
    if stalled is not None:
        yield Measure(Measured.STALL, 1, _known(stalled.reason))


def _end(before: LoRAJobStatus, after: LoRAJobStatus, now: datetime) -> Iterator[Measure]:
    if is_finished(before) or not is_finished(after):
        return
    failed = find_condition(after.conditions, ConditionType.FAILED)
    result = Result.FAILED if failed is not None and failed.status == "True" else Result.SUCCEEDED
    if after.start_time is not None:
        yield Measure(Measured.RUN, _seconds(after.start_time, after.completion_time or now), result)
    if failed is not None and result is Result.FAILED:
        yield Measure(Measured.FAILURE, 1, _known(failed.reason))


def _adapter(before: LoRAJobStatus, after: LoRAJobStatus) -> Iterator[Measure]:
    if after.adapter is not None and (before.adapter is None or before.adapter.digest != after.adapter.digest):
        yield Measure(Measured.ADAPTER, after.adapter.bytes)


def _became_true(before: LoRAJobStatus, after: LoRAJobStatus, kind: ConditionType) -> Condition | None:
    """Return a condition that is True now, and was not, or for another reason."""
    found, previous = find_condition(after.conditions, kind), find_condition(before.conditions, kind)
    if found is None or found.status != "True":
        return None
    same = previous is not None and (previous.status, previous.reason) == (found.status, found.reason)
    return None if same else found


def _known(reason: str) -> str:
    """Return a reason as a label. Anybody with the right to write a status could make up others without end."""
    return reason if reason in _REASONS else Reason.UNKNOWN_FAILURE.value


_REASONS = frozenset(each.value for each in Reason)


def _seconds(since: datetime, now: datetime) -> float:
    """Return the seconds between; 0 when the clock of the API server is ahead of ours."""
    return max(0.0, (now - since).total_seconds())
