"""The steps of a run, in order: job file, preflight, training, adapter.

Each step looks at what is there and returns the next draft of the status, the objects that are missing, and whether
the steps after it may follow. None of them remembers anything: the same observation gives the same answer.
"""

from dataclasses import dataclass, replace

from lora_api.artifacts import ArtifactLayout
from lora_api.conditions import ConditionStatus
from lora_api.lorajob import LoRAJobSpec
from lora_api.lorajob_status import Attempts, Failure
from lora_api.reasons import ConditionType, Reason
from lora_operator.domain.adapter import belongs_to, build_adapter, is_current
from lora_operator.domain.config_map import build_config_map
from lora_operator.domain.errors import Stall
from lora_operator.domain.failures import (
    blocked,
    explain_failed_job,
    explain_pod,
    is_disruption,
    last_words,
    published_by,
    read_message,
    will_retry,
)
from lora_operator.domain.findings import hear_last_words, hear_progress
from lora_operator.domain.jobs import build_job
from lora_operator.domain.observed import Child, Document, Observed, ObservedJob, Ownership, PodView, Stage, WorkView
from lora_operator.domain.settings import Settings
from lora_operator.domain.status import Draft
from lora_operator.domain.summary import summarize_preflight


@dataclass(frozen=True, slots=True)
class Context:
    """What every step may look at."""

    observed: Observed
    settings: Settings
    spec: LoRAJobSpec | None
    """The spec to follow; None when there is none, and then nothing new is created."""

    @property
    def job(self) -> ObservedJob:
        """The LoRAJob."""
        return self.observed.job


@dataclass(frozen=True, slots=True)
class Step:
    """Where a step leaves the pass."""

    draft: Draft
    apply: tuple[Document, ...] = ()
    stall: Stall | None = None
    requeue_after: float | None = None
    go_on: bool = False
    """Whether the next step may follow."""


def own_names(context: Context, draft: Draft) -> Step:
    """Check that what stands at our names is ours. What an earlier object of the same name left will go by itself."""
    seen = context.observed
    children = [seen.config_map, *(work.child for work in (seen.preflight, seen.train) if work)]
    for child in (each for each in children if each is not None):
        if child.ownership is Ownership.LEFTOVER:
            return Step(draft, requeue_after=context.settings.leftover_interval)
        if child.ownership is Ownership.FOREIGN:
            return Step(draft, stall=_taken(child), requeue_after=context.settings.refused_interval)
    return Step(draft, go_on=True)


def _taken(child: Child) -> Stall:
    message = f'{child.kind} "{child.name}" exists and does not belong to this LoRAJob'
    return Stall(Reason.NAME_CONFLICT, message, "delete or rename it, and the job goes on by itself")


def job_file(context: Context, draft: Draft) -> Step:
    """Make the ConfigMap, before any pod that mounts it."""
    if context.observed.config_map is not None or context.spec is None:
        return Step(draft, go_on=True)
    return Step(draft, apply=(build_config_map(context.job, context.spec, context.settings),), go_on=True)


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
    if work.failed:
        failure = explain_failed_job(work, _layout(context))
        return Step(_preflight(draft, "False", Reason(failure.reason), failure.message).failed(failure))
    text = _describe(work)
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
    """Run the training, follow it, and record how it ended."""
    work = context.observed.train
    if work is None:
        return _create(context, draft, _no_pod(draft), Stage.TRAIN)
    draft = _hear_end(_count_attempts(draft, work), work)
    if work.complete:
        return _finish(context, draft, work)
    if work.failed:
        return _give_up(context, draft, work)
    return _follow(context, draft, work)


def _hear_end(draft: Draft, work: WorkView) -> Draft:
    """Keep what the last pod that got to run said when it ended. While it runs, its progress is newer than that."""
    started = [pod for pod in work.pods if pod.running or pod.end]
    words = read_message(started[-1].end) if started else None
    return hear_last_words(draft, words) if words else draft


def _finish(context: Context, draft: Draft, work: WorkView) -> Step:
    words = last_words(work)
    if words is None or words.adapter is None:
        layout = _layout(context)
        message = "The training finished, but its pod is gone and with it the word where the adapter lies"
        hint = f"look for it in {layout.root}/adapters, or delete the LoRAJob and apply it again"
        return Step(draft.failed(Failure(reason=Reason.POD_LOST, message=message, hint=hint)))
    return Step(draft.succeeded(words.adapter, words.step), go_on=True)


def _give_up(context: Context, draft: Draft, work: WorkView) -> Step:
    """Record a failure for good. An adapter that did not pass its gate is published all the same, but not served."""
    draft = draft.failed(explain_failed_job(work, _layout(context)))
    words = published_by(work)
    return Step(draft.published(words.adapter, words.step) if words and words.adapter else draft)


def _follow(context: Context, draft: Draft, work: WorkView) -> Step:
    """Say where the current pod is: not there, not scheduled, failed and to be replaced, or running."""
    pod = work.newest
    if pod is None:
        draft = _no_pod(draft)
    elif pod.running:
        draft = _running(context, draft, pod)
    elif pod.phase == "Failed" and will_retry(work):
        draft = _not_running(
            draft, Reason.RETRYING, f"Another pod will follow{_ahead(draft)}. {explain_pod(pod).message}"
        )
    elif pod.phase != "Failed" and pod.end is None:
        draft = _starting(draft, work)
    step = _watch(context, draft, work)
    running = pod is not None and pod.running
    return replace(step, requeue_after=context.settings.progress_interval) if running else step


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


def _starting(draft: Draft, work: WorkView) -> Draft:
    """Say that a pod starts; of one that replaces another also why, since that may be the first look at either."""
    failed = [pod for pod in work.pods[:-1] if pod.phase == "Failed"]
    if not failed:
        return _not_running(draft, Reason.WAITING_FOR_POD, _describe(work))
    text = f"{_describe(work)}{_ahead(draft)}. Before it: {explain_pod(failed[-1]).message}"
    return _not_running(draft, Reason.RETRYING, text)


def _ahead(draft: Draft) -> str:
    checkpoint = draft.status.checkpoint
    return f", to go on from the checkpoint of step {checkpoint.step}" if checkpoint else ""


def _not_running(draft: Draft, reason: Reason, message: str) -> Draft:
    return draft.condition(ConditionType.RUNNING, "False", reason, message)


def _count_attempts(draft: Draft, work: WorkView) -> Draft:
    """Count failures as the Job does, and the disruptions that can be seen. Neither ever falls."""
    before = draft.status.attempts or Attempts()
    disruptions = sum(is_disruption(pod) for pod in work.pods)
    return draft.update(
        attempts=Attempts(
            failures=max(before.failures, work.failures),
            disruptions=max(before.disruptions, disruptions),
        )
    )


def publish(context: Context, draft: Draft) -> Step:
    """Make or move the LoRAAdapter. One that is not the job's is left alone; the job has succeeded all the same."""
    result, spec = draft.status.adapter, context.spec
    if not draft.is_true(ConditionType.SUCCEEDED) or result is None or spec is None or not spec.adapter.create:
        return Step(draft)
    view = context.observed.adapter
    if view is not None and not belongs_to(view, context.job):
        return Step(draft, stall=_adapter_taken(view.name), requeue_after=context.settings.refused_interval)
    if view is not None and is_current(view, result):
        return Step(draft)
    revision = draft.status.resolved.base_revision if draft.status.resolved else None
    return Step(draft, apply=(build_adapter(context.job, spec, result, revision),))


def _adapter_taken(name: str) -> Stall:
    message = f'The adapter is published, but a LoRAAdapter "{name}" exists and does not belong to this LoRAJob'
    return Stall(Reason.NAME_CONFLICT, message, "delete it, or choose another name in spec.adapter.name")


def _create(context: Context, before: Draft, after: Draft, stage: Stage) -> Step:
    """Create the Job of a stage, unless there is no spec to follow."""
    if context.spec is None:
        return Step(before)
    job = build_job(context.job, context.spec, stage, context.settings)
    return Step(after, apply=(job,), requeue_after=context.settings.missing_pod_interval)


def _watch(context: Context, draft: Draft, work: WorkView) -> Step:
    """Wait for an active Job: its pods wake the operator, but a pod that was refused does not."""
    missing = context.settings.missing_pod_interval if work.newest is None else None
    return Step(_scheduled(draft, work.newest), stall=blocked(work, context.job.spec), requeue_after=missing)


def _describe(work: WorkView) -> str:
    pod = work.newest
    if pod is None:
        return f"Job {work.child.name} has no pod yet"
    if pod.unschedulable and not pod.node:
        return f"Pod {pod.name} waits for a node: {pod.unschedulable}"
    if pod.phase == "Failed":
        ahead = "Another pod will follow. " if will_retry(work) else ""
        return ahead + explain_pod(pod).message
    return f"Pod {pod.name} runs" if pod.running else f"Pod {pod.name} starts"


def _layout(context: Context) -> ArtifactLayout:
    job = context.job
    output = job.spec.output.uri if job.spec else "the output folder"
    return ArtifactLayout(output_uri=output, namespace=job.namespace, name=job.name, run=job.run)
