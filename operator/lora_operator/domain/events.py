"""Events: one for each transition of a condition that a person would want to hear of, and none for anything else.

The name of an event follows from what it says, so that a second operator, or a request that was repeated, cannot
double it.
"""

import hashlib
from collections.abc import Iterator
from datetime import datetime
from typing import Literal, NamedTuple

from lora_api.conditions import Condition, find_condition, is_true
from lora_api.lorajob_status import LoRAJobStatus
from lora_api.names import API_VERSION, FIELD_MANAGER
from lora_api.reasons import ConditionType, Reason
from lora_operator.domain.observed import Document, ObservedAdapter, ObservedJob
from lora_operator.domain.summary import preflight_warnings

_NOTE_LIMIT = 1024
"""Bound of an event's message in Kubernetes."""


class Event(NamedTuple):
    """Something that happened to a job."""

    kind: Literal["Normal", "Warning"]
    reason: str
    message: str
    salt: str = ""
    """Tells apart events of one reason and generation that are not the same, such as retries."""


_TOLD: dict[tuple[str, str], Literal["Normal", "Warning"]] = {
    (ConditionType.STALLED, "True"): "Warning",
    (ConditionType.PREFLIGHT_PASSED, "True"): "Normal",
    (ConditionType.RUNNING, "True"): "Normal",
    (ConditionType.OVERFITTING, "True"): "Warning",
    (ConditionType.SUCCEEDED, "True"): "Normal",
    (ConditionType.FAILED, "True"): "Warning",
    (ConditionType.ADMITTED, "True"): "Normal",
}
"""Transitions that are told whatever their reason."""
_TOLD_REASONS: dict[tuple[str, str], Literal["Normal", "Warning"]] = {
    (ConditionType.RUNNING, Reason.RETRYING): "Warning",
    (ConditionType.RUNNING, Reason.RESTARTING): "Normal",
    (ConditionType.SCHEDULED, Reason.UNSCHEDULABLE): "Warning",
    (ConditionType.SUSPENDED, Reason.SUSPENDED_BY_USER): "Normal",
    (ConditionType.SUSPENDED, Reason.RESUMED): "Normal",
    (ConditionType.FAILED, Reason.RESUMED): "Normal",
    (ConditionType.ADMITTED, Reason.EVICTED): "Warning",
    (ConditionType.ADMITTED, Reason.PREEMPTED): "Warning",
}
"""Reasons that are told whatever the status of their condition."""


def transitions(before: LoRAJobStatus, after: LoRAJobStatus) -> Iterator[Event]:
    """Yield the events between two statuses."""
    for condition in after.conditions:
        previous = find_condition(before.conditions, condition.type)
        if previous and (previous.status, previous.reason) == (condition.status, condition.reason):
            continue
        if event := _event(condition, after):
            yield event
    if before.run and after.run and after.run > before.run:
        yield Event("Normal", Reason.NEW_RUN, f"Run {after.run} begins; run {before.run} is in the history")
    yield from _warnings(before, after)
    yield from _smaller_micro_batch(before, after)


def _event(condition: Condition, status: LoRAJobStatus) -> Event | None:
    kind = _TOLD.get((condition.type, condition.status)) or _TOLD_REASONS.get((condition.type, condition.reason))
    return Event(kind, condition.reason, condition.message, _attempt(status)) if kind else None


def _attempt(status: LoRAJobStatus) -> str:
    attempts = status.attempts
    return f"{attempts.failures}-{attempts.disruptions}" if attempts else ""


def _warnings(before: LoRAJobStatus, after: LoRAJobStatus) -> Iterator[Event]:
    """Yield what a preflight that has just passed warns of, in one event."""
    passed = is_true(after.conditions, ConditionType.PREFLIGHT_PASSED)
    if passed and after.resolved and before.resolved is None and (texts := preflight_warnings(after.resolved)):
        yield Event("Warning", Reason.PREFLIGHT_WARNING, "; ".join(texts))


def _smaller_micro_batch(before: LoRAJobStatus, after: LoRAJobStatus) -> Iterator[Event]:
    """Yield each fall of the micro-batch below what was known, which is the plan at first."""
    known, size = _micro_batch(before), after.progress.micro_batch_size if after.progress else None
    if known and size and size < known:
        message = (
            f"A device holds {size} rows at once instead of {known}, because its memory was too small for more; "
            "the optimizer steps learn from the same rows as before"
        )
        yield Event("Warning", Reason.MICRO_BATCH_REDUCED, message, f"{_attempt(after)}-{size}")


def _micro_batch(status: LoRAJobStatus) -> int | None:
    if status.progress and status.progress.micro_batch_size:
        return status.progress.micro_batch_size
    return status.resolved.plan.micro_batch_size if status.resolved else None


def build_event(subject: ObservedJob | ObservedAdapter, run: int, event: Event, now: datetime) -> Document:
    """Return the Kubernetes event. A LoRAAdapter has no runs."""
    identity = "/".join([subject.uid, str(run), str(subject.generation), *event[:2], event.salt])
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "namespace": subject.namespace,
            "name": f"{subject.name}.{hashlib.sha256(identity.encode()).hexdigest()[:16]}",
        },
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": "LoRAJob" if isinstance(subject, ObservedJob) else "LoRAAdapter",
            "namespace": subject.namespace,
            "name": subject.name,
            "uid": subject.uid,
        },
        "type": event.kind,
        "reason": event.reason,
        "message": event.message if len(event.message) <= _NOTE_LIMIT else event.message[: _NOTE_LIMIT - 1] + "…",
        "source": {"component": FIELD_MANAGER},
        "reportingComponent": FIELD_MANAGER,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
