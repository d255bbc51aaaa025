"""The steps by which a run is stopped, goes on, starts anew or is tidied up. None of them starts a pod.

Whatever has to make way is deleted as a whole Job, in the foreground: its pods get SIGTERM and save a checkpoint, and
the Job is gone when they are. So two trainers of one run never live at the same time, and what comes next is made from
the spec as it is then. What was deleted in vain is made again by the steps that follow.
"""

from datetime import timedelta

from lora_api.lorajob import LoRAJobSpec
from lora_api.lorajob_status import Attempts, Failure
from lora_api.reasons import ConditionType, Reason
from lora_operator.domain.disruptions import is_overlooked
from lora_operator.domain.errors import Stall
from lora_operator.domain.failures import explain_failed_job
from lora_operator.domain.observed import Child, Ownership, WorkView
from lora_operator.domain.status import Draft
from lora_operator.domain.steps import Context, Deletion, Step, delete_child
from lora_operator.domain.wishes import is_corrected, wants_new_run


def own_names(context: Context, draft: Draft) -> Step:
    """Check that what stands at our names is ours. What an earlier object of the same name left will go by itself."""
    for child in _children(context):
        if child.ownership is Ownership.LEFTOVER:
            return Step(draft, requeue_after=context.settings.leftover_interval)
        if child.ownership is Ownership.FOREIGN:
            return Step(draft, stall=_taken(child), requeue_after=context.settings.refused_interval)
    return Step(draft, go_on=True)


def _taken(child: Child) -> Stall:
    message = f'{child.kind} "{child.name}" exists and does not belong to this LoRAJob'
    return Stall(Reason.NAME_CONFLICT, message, "delete or rename it, and the job goes on by itself")


def new_run(context: Context, draft: Draft) -> Step:
    """Begin another run when the spec asks for another result: first the old one stops, then the number changes."""
    job, spec = context.job, context.spec
    if spec is None or not wants_new_run(job):
        return Step(draft, go_on=True)
    why = f"run {job.run} makes way for another: the spec asks for another adapter, or a restart was asked for"
    deletions = _deletions(context, why)
    if not _jobs(context):
        return Step(draft.next_run(job), delete=deletions, requeue_after=0)
    if not draft.finished:
        draft = draft.condition(ConditionType.RUNNING, "False", Reason.RESTARTING, _stopping(context, why))
    return Step(draft, delete=deletions, requeue_after=context.settings.leftover_interval)


def limits(context: Context, draft: Draft) -> Step:
    """End a run that has lasted, failed or was disrupted for longer than it may. A resume does not reset a limit."""
    spec = context.job.spec
    if spec is None:
        return Step(draft, go_on=True)
    policy, attempts = spec.failure_policy, draft.status.attempts or Attempts()
    if attempts.disruptions > policy.max_disruptions:
        return _end(context, draft, _too_many_disruptions(attempts.disruptions, policy.max_disruptions))
    overlooking = _overlooking(context)
    if overlooking is not None and attempts.failures > policy.max_failures:
        return _end(context, draft, explain_failed_job(overlooking, context.layout))
    if policy.active_deadline_seconds is None or draft.status.start_time is None:
        return Step(draft, go_on=True)
    left = (draft.status.start_time + timedelta(seconds=policy.active_deadline_seconds) - draft.now).total_seconds()
    if left <= 0:
        return _end(context, draft, _deadline_exceeded(draft, policy.active_deadline_seconds))
    return Step(draft, requeue_after=left, go_on=True)


def _overlooking(context: Context) -> WorkView | None:
    """Return the training Job if it has failed pods that it does not count, and so does not end by itself in time."""
    work = context.observed.train
    if work is None or work.failed or work.complete or work.child.ownership is not Ownership.OURS:
        return None
    return work if any(is_overlooked(pod) for pod in work.pods) else None


def _end(context: Context, draft: Draft, failure: Failure) -> Step:
    """Fail the run by the limits of the spec as it is now, so that only another spec lets it go on."""
    failed, spec = draft.failed(failure), context.job.spec
    judged = failed.tried_with(spec.attempt_digest()) if spec else failed
    return Step(judged, delete=_stops(context, failure.message))


def _too_many_disruptions(disruptions: int, limit: int) -> Failure:
    message = f"The training was disrupted {disruptions} times, and spec.failurePolicy.maxDisruptions is {limit}"
    hint = "raise it, and the run goes on from its last checkpoint; or use nodes that are not taken away so often"
    return Failure(reason=Reason.TOO_MANY_DISRUPTIONS, message=message, hint=hint)


def _deadline_exceeded(draft: Draft, seconds: int) -> Failure:
    step = draft.status.progress.step if draft.status.progress else 0
    limit = f"spec.failurePolicy.activeDeadlineSeconds, {seconds}"
    message = f"The run has lasted longer than {limit}; it was at step {step}"
    hint = "raise it, and the run goes on from its last checkpoint"
    return Failure(reason=Reason.DEADLINE_EXCEEDED, message=message, hint=hint)


def suspend(context: Context, draft: Draft) -> Step:
    """Keep a run without pods while the user wants it so."""
    spec, kind = context.job.spec, ConditionType.SUSPENDED
    if spec is None or not spec.suspend:
        if draft.is_true(kind):
            draft = draft.condition(kind, "False", Reason.RESUMED, "spec.suspend is false")
        return Step(draft, go_on=True)
    ahead = f"; step {draft.status.checkpoint.step} is saved" if draft.status.checkpoint else ""
    if not _active(context):
        text = f"spec.suspend is true{ahead}"
        draft = draft.condition(kind, "True", Reason.SUSPENDED_BY_USER, text)
        return Step(draft.condition(ConditionType.RUNNING, "False", Reason.SUSPENDED_BY_USER, text))
    text = _stopping(context, f"spec.suspend is true{ahead}")
    draft = draft.condition(kind, "True", Reason.SUSPENDING, text)
    draft = draft.condition(ConditionType.RUNNING, "False", Reason.SUSPENDING, text)
    stops = _stops(context, "spec.suspend is true")
    return Step(draft, delete=stops, requeue_after=context.settings.leftover_interval)


def _stopping(context: Context, why: str) -> str:
    names = ", ".join(pod.name for work in _jobs(context) for pod in work.pods if pod.running)
    return f"Waits for {names or 'the pods'} to save a checkpoint and end: {why}"


def renew(context: Context, draft: Draft) -> Step:
    """Make way for a new Job where one that waits was made from fields that have changed. A pod that runs goes on."""
    spec = context.spec
    stale = [work for work in _jobs(context) if spec is not None and _is_stale(work, context)]
    if stale:
        why = "it waits, and the fields that its pods are made of have changed"
        deletions = tuple(delete_child(work.child, why) for work in stale)
        return Step(_restarting(draft), delete=deletions, requeue_after=context.settings.leftover_interval)
    if any(work.child.ownership is Ownership.GOING for work in _jobs(context)):
        return Step(_restarting(draft), requeue_after=context.settings.leftover_interval)
    return Step(draft, go_on=True) if spec is None else Step(_made_from(context, draft, spec), go_on=True)


def _made_from(context: Context, draft: Draft, spec: LoRAJobSpec) -> Draft:
    """Return the draft that knows the fields of the run's pods: those of the spec, unless an older Job still runs."""
    works = _jobs(context)
    current = not works or works[-1].child.attempt_digest == spec.attempt_digest()
    return draft.tried_with(spec.attempt_digest()) if current else draft


def _is_stale(work: WorkView, context: Context) -> bool:
    """Return whether a Job was made for other fields, and nothing is lost with it."""
    child, spec, job = work.child, context.spec, context.job
    if spec is None or child.ownership is not Ownership.OURS:
        return False
    if job.status.run is None:  # a pass that died has made it, perhaps of another spec
        return (child.run_digest, child.attempt_digest) != (spec.result_digest(), spec.attempt_digest())
    return is_corrected(job) and work.waits and child.attempt_digest != spec.attempt_digest()


def _restarting(draft: Draft) -> Draft:
    return draft.condition(ConditionType.RUNNING, "False", Reason.RESTARTING, "A Job of the changed spec will follow")


def reopen(context: Context, draft: Draft) -> Step:
    """Let a failed run go on when what its pods are made of was corrected: from its last checkpoint, if it has one."""
    spec = context.spec
    if spec is None or not draft.is_true(ConditionType.FAILED) or not is_corrected(context.job):
        return Step(draft, go_on=True)
    failed = [work for work in _jobs(context) if not (work is context.observed.preflight and work.complete)]
    if not failed:
        return Step(draft.reopened(spec.attempt_digest()), requeue_after=0)
    why = "its run goes on with the corrected spec"
    ours = [work.child for work in failed if work.child.ownership is Ownership.OURS]
    deletions = tuple(delete_child(each, why) for each in ours)
    return Step(draft, delete=deletions, requeue_after=context.settings.leftover_interval)


def expire(context: Context, draft: Draft) -> Step:
    """Remove what a finished run has left in the cluster when its time is over. The LoRAJob itself stays."""
    spec, ended = context.job.spec, draft.status.completion_time
    if spec is None or ended is None or spec.ttl_seconds_after_finished is None:
        return Step(draft, go_on=True)
    left = (ended + timedelta(seconds=spec.ttl_seconds_after_finished) - draft.now).total_seconds()
    if left > 0:
        return Step(draft, requeue_after=left, go_on=True)
    return Step(draft, delete=_deletions(context, "spec.ttlSecondsAfterFinished is over"), go_on=True)


def _jobs(context: Context) -> list[WorkView]:
    """Return the Jobs of the run that are ours, also those that are on their way out."""
    seen = context.observed
    works = [each for each in (seen.preflight, seen.train) if each is not None]
    return [each for each in works if each.child.ownership in (Ownership.OURS, Ownership.GOING)]


def _active(context: Context) -> list[WorkView]:
    """Return the Jobs of ours that have not ended."""
    return [each for each in _jobs(context) if not (each.complete or each.failed)]


def _stops(context: Context, why: str) -> tuple[Deletion, ...]:
    """Return the deletion of every Job that has not ended and is not on its way out yet."""
    ours = [each.child for each in _active(context) if each.child.ownership is Ownership.OURS]
    return tuple(delete_child(each, why) for each in ours)


def _children(context: Context) -> list[Child]:
    seen = context.observed
    found = [seen.service, *(work.child for work in (seen.preflight, seen.train) if work)]
    return [each for each in found if each is not None]


def _deletions(context: Context, why: str) -> tuple[Deletion, ...]:
    """Return the deletion of every child of the run that is not on its way out yet."""
    return tuple(delete_child(each, why) for each in _children(context) if each.ownership is Ownership.OURS)
