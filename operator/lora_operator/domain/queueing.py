"""Mirrors what Kueue decides about a training Job into the condition Admitted.

Kueue owns the Job's `suspend`, node selector and tolerations from the moment the Job exists: they are read here and
never written. A Job that Kueue suspends loses its pods, which counts as a disruption like any other.
"""

from lora_api.reasons import ConditionType, Reason
from lora_operator.domain.observed import WorkloadView, WorkView
from lora_operator.domain.status import Draft

_PREEMPTED = "Preempted"
_NO_WORKLOAD = "Kueue has made no Workload for the Job yet; if it never does, check that Kueue runs and serves Jobs"


def mirror_queue(draft: Draft, work: WorkView, workload: WorkloadView | None) -> Draft:
    """Return the draft with what Kueue says. A job without a queue has no such condition."""
    if not work.queue:
        return draft
    kind = ConditionType.ADMITTED
    if not work.suspended:
        return draft.condition(kind, "True", Reason.ADMITTED, f"Kueue has admitted the Job by queue {work.queue}")
    return draft.condition(kind, "False", _why(draft, work, workload), _message(work, workload))


def _why(draft: Draft, work: WorkView, workload: WorkloadView | None) -> Reason:
    """Return why the Job waits. One that has had a pod and waits again was evicted, whatever is left to see of it."""
    if workload is not None and workload.evicted:
        return Reason.PREEMPTED if workload.reason == _PREEMPTED else Reason.EVICTED
    attempts = draft.status.attempts
    had_a_pod = attempts is not None and attempts.job == work.child.uid and attempts.pods > 0
    return Reason.EVICTED if had_a_pod else Reason.QUEUED


def _message(work: WorkView, workload: WorkloadView | None) -> str:
    if workload is None:
        return _NO_WORKLOAD
    return workload.message or f"Kueue has not admitted the Job by queue {work.queue} yet"
