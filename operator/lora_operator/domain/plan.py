"""What to do about one job: the whole decision of one reconcile pass, as one pure function.

`plan(observed, settings, now)` looks at the snapshot and returns what to write. It writes nothing itself, keeps
nothing, and asks for no write when nothing has changed.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from lora_api.conditions import Condition, whole_seconds
from lora_api.lorajob_status import LoRAJobStatus
from lora_api.reasons import ConditionType, Reason
from lora_operator.domain import lifecycle, removal, stages
from lora_operator.domain.checks import first_violation
from lora_operator.domain.errors import RefusedError
from lora_operator.domain.events import Event, transitions
from lora_operator.domain.failures import explain_refusal
from lora_operator.domain.observed import Document, Observed, ObservedJob
from lora_operator.domain.settings import Settings
from lora_operator.domain.status import Draft, begin, is_same
from lora_operator.domain.steps import Context, Deletion, Step, walk
from lora_operator.domain.wishes import remember


@dataclass(frozen=True, slots=True)
class Plan:
    """Writes of one pass, in the order in which they are done."""

    guard: bool | None = None
    """True puts our finalizer on the LoRAJob, before all else. False takes it off, after all else."""
    delete: tuple[Deletion, ...] = ()
    create: tuple[Document, ...] = ()
    """Objects that were not there, each before the ones that need it."""
    apply: tuple[Document, ...] = ()
    """Objects to create or move."""
    status: LoRAJobStatus | None = None
    """The new status; None when it has not changed."""
    events: tuple[Event, ...] = ()
    """To be told after the status is written, never before."""
    requeue_after: float | None = None
    """Seconds until the job wants to be looked at again though nothing wakes the operator."""


_FIRST = (
    removal.guard,
    lifecycle.own_names,
    stages.ended,
)
_ACTIVE = (
    lifecycle.new_run,
    lifecycle.limits,
    lifecycle.suspend,
    lifecycle.renew,
    stages.meeting_point,
    stages.preflight,
    stages.train,
)
_FINISHED = (
    lifecycle.new_run,
    lifecycle.reopen,
    stages.publish,
    lifecycle.expire,
)
"""A run that has ended is never started again by itself, whatever became of its Jobs. Its LoRAAdapter is kept right."""
_DELETED = (
    removal.retained,
    removal.stop,
    removal.clean_up,
)


def plan(observed: Observed, settings: Settings, now: datetime) -> Plan:
    """Return what this pass has to write."""
    job = observed.job
    if job.deleting:
        return _last_plan(observed, settings, now)
    violation = first_violation(job, settings)
    draft = begin(job, now)
    if violation is not None and job.status.run is None:
        return _conclude(job, Step(draft, stall=violation))
    spec = job.spec if violation is None else None
    if spec is not None and job.status.run is None:
        draft = draft.accepted(job)
    step = _run(Context(observed, settings, spec), draft)
    if violation is not None:
        step = replace(step, stall=violation)
    return _conclude(job, step)


def _run(context: Context, draft: Draft) -> Step:
    """Take the steps of a run that goes on, or of one that has ended."""
    draft = remember(draft, context.job)
    if draft.finished:
        return walk((removal.guard, *_FINISHED), context, Step(draft, go_on=True))
    step = walk(_FIRST, context, Step(draft, go_on=True))
    return walk(_FINISHED if step.draft.finished else _ACTIVE, context, step)


def _last_plan(observed: Observed, settings: Settings, now: datetime) -> Plan:
    """Return what a LoRAJob that is being deleted still needs: nothing, unless its artifacts are to go with it."""
    job = observed.job
    if not job.guarded:
        return Plan()
    step = walk(_DELETED, Context(observed, settings, job.spec), Step(begin(job, now), go_on=True))
    planned = _conclude(job, step)
    if step.guard is not False:
        return planned
    removed = Event("Normal", Reason.ARTIFACTS_REMOVED, "The artifacts of the LoRAJob are removed")
    return replace(planned, status=None, events=(removed,) if observed.cleanup else ())


def _conclude(job: ObservedJob, step: Step) -> Plan:
    """Turn the last step into writes: a status only if it differs, and events only for what changed."""
    draft = step.draft.stalled(step.stall) if step.stall else step.draft.not_stalled(step.notice)
    status = draft.complete()
    return Plan(
        guard=step.guard,
        delete=step.delete,
        create=step.create,
        apply=step.apply,
        status=None if is_same(status, job.status) else status,
        events=tuple(transitions(job.status, status)),
        requeue_after=step.requeue_after,
    )


def plan_refused(observed: Observed, planned: Plan, refused: RefusedError, now: datetime) -> Plan:
    """Return what to write when the API server did not take an object of the pass.

    What the pass had found out is kept; to it comes that the job is stalled, in the server's words. The caller comes
    back by `Settings.refused_interval`. In a namespace that is being deleted nothing can be done any more, and the
    LoRAJob must not hold it up.
    """
    job = observed.job
    if removal.is_last_breath(refused):
        return Plan(guard=False if job.guarded and job.deleting else None)
    found = planned.status or job.status
    kept = [each for each in found.conditions if not _is_undone(each)]
    undone = [each for each in job.status.conditions if _is_undone(each) or each.type not in {k.type for k in kept}]
    draft = Draft(
        found.model_copy(update={"conditions": kept + undone}), job.generation, whole_seconds(now)
    ).first_seen()
    return _conclude(job, Step(draft, stall=explain_refusal(refused)))


def _is_undone(condition: Condition) -> bool:
    """Return whether a refusal takes a condition back: that nothing holds the job up, and that its pod will start."""
    return condition.type == ConditionType.STALLED or condition.reason == Reason.PREFLIGHT_RUNNING
