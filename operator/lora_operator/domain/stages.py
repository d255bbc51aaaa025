"""The steps of a run, in order: preflight, training, adapter.

Each step looks at what is there and returns the next draft of the status, the objects that are missing, and whether
the steps after it may follow. None of them remembers anything: the same observation gives the same answer.
"""

from lora_api.conditions import ConditionStatus
from lora_api.lorajob_status import Attempts, Failure
from lora_api.reasons import ConditionType, Reason
from lora_operator.domain.adapter import belongs_to, build_adapter, is_current
from lora_operator.domain.attempts import count_attempts, was_heard
from lora_operator.domain.errors import Stall
from lora_operator.domain.failures import (
    blocked,
    describe_disruption,
    explain_failed_job,
    explain_pod,
    is_disruption,
    last_words,
    published_by,
    read_message,
    unschedulable_failure,
    will_retry,
)
from lora_operator.domain.findings import hear_last_words, hear_progress
from lora_operator.domain.jobs import build_job
from lora_operator.domain.observed import Ownership, PodView, Stage, WorkView
from lora_operator.domain.queueing import mirror_queue
from lora_operator.domain.service import build_service
from lora_operator.domain.status import Draft
from lora_operator.domain.steps import Context, Step
from lora_operator.domain.summary import summarize_preflight


def ended(context: Context, draft: Draft) -> Step:
    """Record what has ended since the last pass, before anything else may take it away."""
    work = context.observed.preflight
    if work is not None and work.failed and not draft.is_true(ConditionType.PREFLIGHT_PASSED):
        failure = explain_failed_job(work, context.layout)
        return Step(_preflight(draft, "False", Reason(failure.reason), failure.message).failed(failure), go_on=True)
    work = context.observed.train
    if work is None:
        return Step(draft, go_on=True)
    before = draft.status.attempts or Attempts()
    draft = _hear_end(draft.update(attempts=count_attempts(before, work)), work, before)
    if work.complete:
        return _finish(context, draft, work)
    if work.failed and work.child.ownership is Ownership.OURS:
        return _give_up(context, draft, work)
    return Step(draft, go_on=True)


def _hear_end(draft: Draft, work: WorkView, before: Attempts) -> Draft:
    """Keep what the last pod that got to run said when it ended. While it runs, its progress is newer than that.

    Once a newer one was seen, its words are old: that one may have run, and be gone by now.
    """
    started = [pod for pod in work.pods if (pod.running or pod.end) and pod.index == 0]
    words = read_message(started[-1].end) if started and not was_heard(started[-1], before, work) else None
    return hear_last_words(draft, words) if words else draft


def _finish(context: Context, draft: Draft, work: WorkView) -> Step:
    words = last_words(work)
    if words is None or words.adapter is None:
        message = "The training finished, but its pod is gone and with it the word where the adapter lies"
        hint = f"look for it in {context.layout.root}/adapters, or start the run anew"
        return Step(draft.failed(Failure(reason=Reason.POD_LOST, message=message, hint=hint)), go_on=True)
    return Step(draft.succeeded(words.adapter, words.step), go_on=True)


def _give_up(context: Context, draft: Draft, work: WorkView) -> Step:
    """Record a failure for good. An adapter that did not pass its gate is published all the same, but not served."""
    draft = draft.failed(explain_failed_job(work, context.layout))
    words = published_by(work)
    if words is not None and words.adapter is not None:
        draft = draft.published(words.adapter, words.step)
    return Step(draft, go_on=True)


def meeting_point(context: Context, draft: Draft) -> Step:
    """Make the Service by which the pods of several nodes find the first of them."""
    spec = context.spec
    if spec is None or spec.resources.nodes == 1 or context.observed.service is not None:
        return Step(draft, go_on=True)
    return Step(draft, create=(build_service(context.job),), go_on=True)


def preflight(context: Context, draft: Draft) -> Step:
    """Run the checks on a CPU pod. Passed once is passed: the Job may be removed afterwards."""
    if draft.is_true(ConditionType.PREFLIGHT_PASSED):
        return Step(draft, go_on=True)
    if context.spec is not None and not context.spec.preflight.enabled:
        text = "spec.preflight.enabled is false"
        return Step(_preflight(draft, "True", Reason.PREFLIGHT_SKIPPED, text), go_on=True)
    work = context.observed.preflight
    if work is None:
        running = _preflight(draft, "Unknown", Reason.PREFLIGHT_RUNNING, "The preflight starts")
        return _create(context, draft, running, Stage.PREFLIGHT)
    if work.complete:
        return Step(_preflight_passed(draft, work), go_on=True)
    text = _describe(work)
    draft = mirror_queue(draft, work, context.observed.workload)
    return _watch(context, _preflight(draft, "Unknown", Reason.PREFLIGHT_RUNNING, text), work)


def _preflight(draft: Draft, status: ConditionStatus, reason: Reason, message: str) -> Draft:
    return draft.condition(ConditionType.PREFLIGHT_PASSED, status, reason, message)


def _preflight_passed(draft: Draft, work: WorkView) -> Draft:
    words = last_words(work)
    if words and words.preflight:
        text = summarize_preflight(words.preflight)
        return _preflight(draft, "True", Reason.PREFLIGHT_SUCCEEDED, text).update(resolved=words.preflight)
    text = words.message if words else "The preflight passed; its report is gone with its pod"
    return _preflight(draft, "True", Reason.PREFLIGHT_SUCCEEDED, text)


def train(context: Context, draft: Draft) -> Step:
    """Run the training and follow it: not there, queued, not scheduled, failed and to be replaced, or running."""
    work = context.observed.train
    if work is None:
        return _create(context, draft, _no_pod(draft), Stage.TRAIN)
    draft = mirror_queue(draft, work, context.observed.workload)
    pod = work.newest
    if work.suspended and (pod is None or not pod.running):
        draft = _queued(draft)
    elif pod is None:
        draft = _no_pod(draft)
    elif pod.running:
        draft = _running(context, draft, pod)
    elif pod.phase == "Failed" and will_retry(work):
        text = f"Another pod will follow{_ahead(draft)}. {_why_it_ended(pod)}"
        draft = _not_running(draft, Reason.RETRYING, text)
    elif pod.phase != "Failed" and pod.end is None:
        draft = _starting(draft, work)
    return _watch(context, draft, work)


def _running(context: Context, draft: Draft, pod: PodView) -> Draft:
    draft = draft.condition(ConditionType.RUNNING, "True", Reason.TRAINING, f"Pod {pod.name} trains")
    return hear_progress(draft, context.observed.progress) if context.observed.progress else draft


def _scheduled(draft: Draft, pod: PodView | None) -> Draft:
    kind = ConditionType.SCHEDULED
    if pod is not None and pod.node:
        return draft.condition(kind, "True", Reason.POD_SCHEDULED, f"Pod {pod.name} has node {pod.node}")
    if pod is not None and pod.unschedulable:
        return draft.condition(kind, "False", Reason.UNSCHEDULABLE, pod.unschedulable)
    return draft.condition(kind, "False", Reason.WAITING_FOR_POD, "The pod has no node yet")


def _no_pod(draft: Draft) -> Draft:
    text = f"The training Job has no pod yet{_ahead(draft)}"
    return _scheduled(_not_running(draft, Reason.WAITING_FOR_POD, text), None)


def _queued(draft: Draft) -> Draft:
    return _scheduled(_not_running(draft, Reason.QUEUED, f"Waits for Kueue{_ahead(draft)}"), None)


def _starting(draft: Draft, work: WorkView) -> Draft:
    """Say that a pod starts; of one that replaces another also why, since that may be the first look at either."""
    failed = [pod for pod in work.pods[:-1] if pod.phase == "Failed" and pod.index == 0]
    if not failed:
        return _not_running(draft, Reason.WAITING_FOR_POD, _describe(work))
    text = f"{_describe(work)}{_ahead(draft)}. Before it: {_why_it_ended(failed[-1])}"
    return _not_running(draft, Reason.RETRYING, text)


def _why_it_ended(pod: PodView) -> str:
    return describe_disruption(pod) if is_disruption(pod) else explain_pod(pod).message


def _ahead(draft: Draft) -> str:
    checkpoint = draft.status.checkpoint
    return f", to go on from the checkpoint of step {checkpoint.step}" if checkpoint else ""


def _not_running(draft: Draft, reason: Reason, message: str) -> Draft:
    return draft.condition(ConditionType.RUNNING, "False", reason, message)


def publish(context: Context, draft: Draft) -> Step:
    """Make or move the LoRAAdapter. One that is not the job's is left alone; the job has succeeded all the same."""
    result, spec = draft.status.adapter, context.spec
    if not draft.is_true(ConditionType.SUCCEEDED) or result is None or spec is None or not spec.adapter.create:
        return Step(draft, go_on=True)
    view = context.observed.adapter
    if view is not None and not belongs_to(view, context.job):
        stall = _adapter_taken(view.name)
        return Step(draft, stall=stall, requeue_after=context.settings.refused_interval, go_on=True)
    if view is not None and is_current(view, result):
        return Step(draft, go_on=True)
    revision = draft.status.resolved.base_revision if draft.status.resolved else None
    return Step(draft, apply=(build_adapter(context.job, spec, result, revision),), go_on=True)


def _adapter_taken(name: str) -> Stall:
    message = f'The adapter is published, but a LoRAAdapter "{name}" exists and does not belong to this LoRAJob'
    return Stall(Reason.NAME_CONFLICT, message, "delete it, or choose another name in spec.adapter.name")


def _create(context: Context, before: Draft, after: Draft, stage: Stage) -> Step:
    """Create the Job of a stage, unless there is no spec to follow."""
    if context.spec is None:
        return Step(before)
    job = build_job(context.job, context.spec, stage, context.settings, after.status, after.now)
    return Step(after, create=(job,), requeue_after=context.settings.missing_pod_interval)


def _watch(context: Context, draft: Draft, work: WorkView) -> Step:
    """Wait for an active Job: its pods wake the operator, but a pod that was refused does not."""
    pod = work.newest
    settings = context.settings
    missing = settings.missing_pod_interval if work.lacks_pods else None
    homeless = pod is not None and pod.unschedulable and not pod.node
    return Step(
        _scheduled(draft, pod),
        stall=blocked(work, context.job.spec),
        notice=unschedulable_failure(pod, context.job.spec) if pod and homeless else None,
        requeue_after=settings.queue_interval if work.suspended else missing,
    )


def _describe(work: WorkView) -> str:
    pod = work.newest
    if work.suspended and pod is None:
        return f"Job {work.child.name} waits for Kueue"
    if pod is None:
        return f"Job {work.child.name} has no pod yet"
    if pod.unschedulable and not pod.node:
        return f"Pod {pod.name} waits for a node: {pod.unschedulable}"
    if pod.phase == "Failed":
        ahead = "Another pod will follow. " if will_retry(work) else ""
        return ahead + _why_it_ended(pod)
    return f"Pod {pod.name} runs" if pod.running else f"Pod {pod.name} starts"
