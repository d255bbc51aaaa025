"""Why a LoRAJob is as it is: one decision over a snapshot, the first rule that holds answers."""

import json
from collections.abc import Callable

from lora_api.conditions import Condition, find_condition, is_true
from lora_api.lorajob_status import LoRAJobStatus
from lora_api.reasons import ConditionType, Reason
from lora_cli.explain.attempts import untold_end, with_attempt
from lora_cli.explain.operator import not_seen, without_operator
from lora_cli.explain.pods import pod_trouble, refused_pods, unnoticed_end
from lora_cli.explain.reading import PodFacts, event_line, job_status, pod_facts, true_condition
from lora_cli.explain.snapshot import Document, Explanation, Snapshot, Standing, Verdict
from lora_cli.render.units import duration

_SILENT_SECONDS = 120
"""A pod that trains has told its progress after so long, if it can be reached at all."""
_SHOWN_EVENTS = 8


def explain_job(snapshot: Snapshot) -> Explanation:
    """Return why the LoRAJob is as it is."""
    meta, status = snapshot.document["metadata"], job_status(snapshot.document)
    return Explanation(
        name=f"LoRAJob {meta['namespace']}/{meta['name']}",
        verdict=decide(snapshot),
        conditions=tuple(status.conditions),
        works=tuple(_work_lines(snapshot)),
        events=tuple(event_line(each) for each in snapshot.events[-_SHOWN_EVENTS:]),
        log=snapshot.log,
        unread=snapshot.unread,
    )


def decide(snapshot: Snapshot) -> Verdict:
    """Return the verdict of the first rule that has one."""
    status = job_status(snapshot.document)
    for rule in _RULES:
        if verdict := rule(snapshot, status):
            return verdict
    return Verdict(Standing.WAITING, Reason.ACCEPTED, "The job is accepted, and nothing holds it up", "wait a moment")


def _deleting(snapshot: Snapshot, status: LoRAJobStatus) -> Verdict | None:
    if "deletionTimestamp" not in snapshot.document["metadata"] or is_true(status.conditions, ConditionType.STALLED):
        return None
    return Verdict(
        Standing.WAITING,
        Reason.REMOVING_ARTIFACTS,
        "The LoRAJob is being deleted, and its artifacts with it",
        _patch(snapshot, {"deletionPolicy": "Retain"}) + " keeps them",
    )


def _patch(snapshot: Snapshot, spec: Document) -> str:
    """Return the command that changes the spec, to be copied."""
    change = json.dumps({"spec": spec}, separators=(",", ":"))
    return f"kubectl patch lorajob {snapshot.where} --type=merge -p '{change}'"


def _ended_well(_: Snapshot, status: LoRAJobStatus) -> Verdict | None:
    if not is_true(status.conditions, ConditionType.SUCCEEDED) or is_true(status.conditions, ConditionType.STALLED):
        return None
    uri = status.adapter.uri if status.adapter else "its output folder"
    return Verdict(Standing.DONE, Reason.ADAPTER_PUBLISHED, f"Run {status.run} has succeeded: the adapter is at {uri}")


def _failed(_: Snapshot, status: LoRAJobStatus) -> Verdict | None:
    return _told(status, ConditionType.FAILED, f"Run {status.run} has failed")


def _stalled(_: Snapshot, status: LoRAJobStatus) -> Verdict | None:
    return _told(status, ConditionType.STALLED, "The job waits for you")


def _told(status: LoRAJobStatus, kind: ConditionType, start: str) -> Verdict | None:
    """Return what the operator says of a condition that is True, with its own hint."""
    found = find_condition(status.conditions, kind)
    if found is None or found.status != "True":
        return None
    failure = status.failure
    if failure is None or failure.reason != found.reason:
        message, _, hint = found.message.partition(" What to do: ")
        return Verdict(Standing.TROUBLE, found.reason, f"{start}: {message.rstrip('.')}", hint)
    return Verdict(Standing.TROUBLE, failure.reason, f"{start}: {failure.message}", failure.hint)


def _suspended(snapshot: Snapshot, status: LoRAJobStatus) -> Verdict | None:
    asked = (snapshot.document.get("spec") or {}).get("suspend") is True
    if not asked and not is_true(status.conditions, ConditionType.SUSPENDED):
        return None
    step = f", with a checkpoint of step {status.checkpoint.step}" if status.checkpoint else ""
    return Verdict(
        Standing.WAITING,
        Reason.SUSPENDED_BY_USER,
        f"spec.suspend keeps the job without pods{step}",
        _patch(snapshot, {"suspend": False}) + " lets it go on",
    )


def _queued(snapshot: Snapshot, status: LoRAJobStatus) -> Verdict | None:
    admitted = find_condition(status.conditions, ConditionType.ADMITTED)
    if admitted is None or admitted.status != "False":
        return None
    space = snapshot.document["metadata"]["namespace"]
    hint = f"wait for quota, or look at the queue: kubectl describe localqueue -n {space}; the job goes on by itself"
    return Verdict(Standing.WAITING, admitted.reason, f"Kueue has not let the job start: {admitted.message}", hint)


def _no_operator(snapshot: Snapshot, status: LoRAJobStatus) -> Verdict | None:
    passed = is_true(status.conditions, ConditionType.PREFLIGHT_PASSED)
    name = unnoticed_end(snapshot.jobs, snapshot, preflight_passed=passed)
    if name:
        return without_operator(f"Job {name} has ended, and the operator has not noticed")
    return untold_end(tuple(pod_facts(each) for each in snapshot.pods), snapshot, status)


def _pod(snapshot: Snapshot, status: LoRAJobStatus) -> Verdict | None:
    newest = _newest(snapshot)
    if newest is None:
        return refused_pods(snapshot.jobs, snapshot.events)
    found = pod_trouble(newest, snapshot)
    failure = status.failure
    if found and failure and failure.reason == found.reason:  # the operator has said it, and knows the spec
        found = Verdict(found.standing, found.reason, failure.message, failure.hint)
    return with_attempt(found, newest, snapshot, status) if found else None


def _running(snapshot: Snapshot, status: LoRAJobStatus) -> Verdict | None:
    running = find_condition(status.conditions, ConditionType.RUNNING)
    if running is None or running.status != "True":
        return None
    progress = status.progress
    since = (snapshot.now - running.last_transition_time).total_seconds()
    if progress is None and since > _SILENT_SECONDS:
        text = f"The pod trains since {duration(since)}, but the operator hears nothing of its progress"
        hint = "see that NetworkPolicies let the operator reach port 9400 of the pods; the training itself goes on"
        return Verdict(Standing.RUNNING, Reason.TRAINING, text, hint)
    overfitting = find_condition(status.conditions, ConditionType.OVERFITTING)
    if overfitting and overfitting.status == "True":
        text = f"The job trains, {_step(status)}, and looks overfitted: {overfitting.message}"
        return Verdict(Standing.RUNNING, overfitting.reason, text, "fewer epochs, a lower rank, or more data")
    return Verdict(Standing.RUNNING, Reason.TRAINING, f"The job trains, {_step(status)}, and nothing holds it up")


def _step(status: LoRAJobStatus) -> str:
    progress = status.progress
    return f"step {progress.step} of {progress.total_steps or '?'}" if progress else "and has not told a step yet"


def _on_its_way(_: Snapshot, status: LoRAJobStatus) -> Verdict | None:
    for kind in (ConditionType.RUNNING, ConditionType.PREFLIGHT_PASSED):
        found = find_condition(status.conditions, kind)
        if found and found.status != "True" and found.message:
            return Verdict(Standing.WAITING, found.reason, found.message.rstrip("."), "nothing: it goes on by itself")
    return None


_RULES: tuple[Callable[[Snapshot, LoRAJobStatus], Verdict | None], ...] = (
    lambda snapshot, status: not_seen(snapshot, status.observed_generation),
    _stalled,
    _deleting,
    _ended_well,
    _failed,
    _suspended,
    _queued,
    _no_operator,
    _pod,
    _running,
    _on_its_way,
)
"""A condition that ends the run or asks for the user decides before anything that only explains how it came."""


def _newest(snapshot: Snapshot) -> PodFacts | None:
    return pod_facts(snapshot.pods[-1]) if snapshot.pods else None


def _work_lines(snapshot: Snapshot) -> list[str]:
    pods = [pod_facts(each) for each in snapshot.pods]
    lines = [f"Job {each['metadata']['name']}: {_job_state(each)}" for each in snapshot.jobs]
    return lines + [f"Pod {each.name}: {each.state}" + (f" on {each.node}" if each.node else "") for each in pods]


def _job_state(job: Document) -> str:
    failed = true_condition(job, "Failed")
    if failed:
        return f"failed: {failed.get('reason')}: {failed.get('message') or ''}".rstrip(": ")
    if true_condition(job, "Complete"):
        return "complete"
    if (job.get("spec") or {}).get("suspend"):
        return "suspended"
    status = job.get("status") or {}
    return f"{status.get('active', 0)} active, {status.get('failed', 0)} failed"


def conditions_in_order(conditions: tuple[Condition, ...]) -> list[Condition]:
    """Return the conditions in the order of a job's life."""
    order = {each.value: number for number, each in enumerate(ConditionType)}
    return sorted(conditions, key=lambda each: order.get(each.type, len(order)))
