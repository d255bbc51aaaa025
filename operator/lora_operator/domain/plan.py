"""What to do about one job: the whole decision of one reconcile pass, as one pure function.

`plan(observed, settings, now)` looks at the snapshot and returns what to write. It writes nothing itself, keeps
nothing, and asks for no write when nothing has changed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from lora_api.conditions import Condition, whole_seconds
from lora_api.lorajob_status import LoRAJobStatus
from lora_api.reasons import ConditionType, Reason
from lora_operator.domain import stages
from lora_operator.domain.checks import first_violation
from lora_operator.domain.errors import RefusedError
from lora_operator.domain.events import Event, transitions
from lora_operator.domain.failures import explain_refusal
from lora_operator.domain.observed import Document, Observed, ObservedJob
from lora_operator.domain.settings import Settings
from lora_operator.domain.stages import Context, Step
from lora_operator.domain.status import Draft, begin, is_same


@dataclass(frozen=True, slots=True)
class Plan:
    """Writes of one pass, in the order in which they are done."""

    apply: tuple[Document, ...] = ()
    """Objects to create or move, each before the ones that need it."""
    status: LoRAJobStatus | None = None
    """The new status; None when it has not changed."""
    events: tuple[Event, ...] = ()
    """To be told after the status is written, never before."""
    requeue_after: float | None = None
    """Seconds until the job wants to be looked at again though nothing wakes the operator."""


_STEPS: tuple[Callable[[Context, Draft], Step], ...] = (
    stages.own_names,
    stages.job_file,
    stages.preflight,
    stages.train,
    stages.publish,
)
_FINISHED_STEPS = (stages.publish,)
"""A run that has ended is never started again, whatever became of its Jobs. Its LoRAAdapter is kept right."""


def plan(observed: Observed, settings: Settings, now: datetime) -> Plan:
    """Return what this pass has to write."""
    job = observed.job
    if job.deleting:
        return Plan()
    violation = first_violation(job)
    draft = begin(job, now)
    if violation is not None and job.status.run is None:
        return _conclude(job, Step(draft, stall=violation))
    spec = job.spec if violation is None else None
    if spec is not None and job.status.run is None:
        draft = draft.accepted(spec.result_digest())
    step = _walk(Context(observed, settings, spec), draft)
    if violation is not None:
        step = replace(step, stall=violation)
    return _conclude(job, step)


def _walk(context: Context, draft: Draft) -> Step:
    """Take the steps in order until one says that the next cannot follow yet."""
    apply: tuple[Document, ...] = ()
    step = Step(draft)
    for take in _FINISHED_STEPS if draft.finished else _STEPS:
        step = take(context, step.draft)
        apply += step.apply
        if not step.go_on:
            break
    return replace(step, apply=apply)


def _conclude(job: ObservedJob, step: Step) -> Plan:
    """Turn the last step into writes: a status only if it differs, and events only for what changed."""
    draft = step.draft.stalled(step.stall) if step.stall else step.draft.not_stalled()
    status = draft.complete()
    return Plan(
        apply=step.apply,
        status=None if is_same(status, job.status) else status,
        events=(*transitions(job.status, status), *_made(step.apply)),
        requeue_after=step.requeue_after,
    )


def _made(applied: tuple[Document, ...]) -> tuple[Event, ...]:
    names = [each["metadata"]["name"] for each in applied if each["kind"] == "LoRAAdapter"]
    return tuple(
        Event("Normal", Reason.ADAPTER_CREATED, f'LoRAAdapter "{name}" names the published adapter', name)
        for name in names
    )


def plan_refused(observed: Observed, planned: Plan, refused: RefusedError, now: datetime) -> Plan:
    """Return what to write when the API server did not take an object of the pass.

    What the pass had found out is kept; to it comes that the job is stalled, in the server's words. The caller comes
    back by `Settings.refused_interval`.
    """
    job = observed.job
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
