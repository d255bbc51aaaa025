"""What the pods and Jobs of a run say themselves, for when the operator has not said it: pure."""

import re
from collections.abc import Sequence

from lora_api.evictions import full_volume, outgrew_its_disk
from lora_api.exit_codes import ExitCode
from lora_api.reasons import REASON_OF_EXIT_CODE, Reason
from lora_cli.explain.reading import PodFacts, seconds_since, true_condition
from lora_cli.explain.snapshot import Document, Snapshot, Standing, Verdict

_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_SECRET = re.compile(r'secret "([^"]+)" not found|in Secret (?:\S+/)?(\S+)')
_VOLUME_EVENTS = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")
_STARTS_SECONDS = 120
"""A pod may take so long to start before its events are worth a word."""
NOTICED_SECONDS = 60
"""An operator that runs has seen the end of a Job after so long."""


def pod_trouble(pod: PodFacts, snapshot: Snapshot) -> Verdict | None:
    """Return what keeps the newest pod from starting, or how it ended; None when it is well."""
    if pod.exit_code is not None or pod.phase == "Failed":
        return _ended(pod, snapshot)
    if pod.unschedulable and not pod.node:
        return Verdict(
            Standing.WAITING,
            Reason.UNSCHEDULABLE,
            f"No node takes pod {pod.name}: {pod.unschedulable}",
            "ask for less in spec.resources, correct spec.scheduling, or add a node; the job goes on by itself",
        )
    if pod.waiting_reason in _IMAGE:
        return Verdict(
            Standing.TROUBLE,
            Reason.IMAGE_PULL_FAILED,
            f"Pod {pod.name} cannot pull its image: {pod.waiting_message or pod.waiting_reason}",
            "correct spec.pod.image, or name its registry's login in spec.pod.imagePullSecrets",
        )
    if pod.waiting_reason in _CONFIG:
        return _not_configured(pod)
    return _slow_start(pod, snapshot)


def _not_configured(pod: PodFacts) -> Verdict:
    missing = _SECRET.search(pod.waiting_message)
    if missing:
        name = missing[1] or missing[2]
        return Verdict(
            Standing.TROUBLE,
            Reason.SECRET_NOT_FOUND,
            f"Pod {pod.name} cannot start: {pod.waiting_message}",
            f"create Secret {name} with the keys that the job needs, or correct spec.storage.credentialsSecretRef "
            "or spec.baseModel.tokenSecretRef; the job goes on by itself",
        )
    return Verdict(
        Standing.TROUBLE,
        Reason.POD_REFUSED,
        f"Pod {pod.name} cannot start: {pod.waiting_message or pod.waiting_reason}",
        "correct what the message names, most likely spec.pod.image",
    )


def _slow_start(pod: PodFacts, snapshot: Snapshot) -> Verdict | None:
    """Return what the events say of a pod that has a node and does not start."""
    if pod.running or not pod.node or seconds_since(pod.created, snapshot.now) < _STARTS_SECONDS:
        return None
    about = [each for each in snapshot.events if (each.get("involvedObject") or {}).get("name") == pod.name]
    told = [each for each in about if each.get("reason") in _VOLUME_EVENTS]
    if not told:
        return None
    return Verdict(
        Standing.WAITING,
        Reason.WAITING_FOR_POD,
        f"Pod {pod.name} does not start on node {pod.node}: {told[-1].get('message')}",
        "see that the volume or the node is put right; the job goes on by itself",
    )


def _ended(pod: PodFacts, snapshot: Snapshot) -> Verdict | None:
    if pod.exit_code == ExitCode.DONE:
        return None
    words = pod.words
    if outgrew_its_disk(pod.lost):
        text = f"Pod {pod.name} was evicted: {pod.lost}"
        return Verdict(Standing.WAITING, Reason.DISK_FULL, text, _disk_hint(pod.lost))
    if pod.disrupted or pod.exit_code == ExitCode.INTERRUPTED:
        said = pod.lost or (words.message if words else "it was asked to stop")
        hint = "nothing: the next pod goes on from the last checkpoint"
        return Verdict(Standing.WAITING, Reason.INTERRUPTED, f"Pod {pod.name} was taken away: {said}", hint)
    if pod.end_reason == "OOMKilled":
        text = f"Pod {pod.name} used more memory than its limit and was killed"
        return Verdict(Standing.WAITING, Reason.OUT_OF_MEMORY, text, "raise spec.resources.memory")
    code = pod.exit_code
    reasons = {each.value: reason for each, reason in REASON_OF_EXIT_CODE.items()}
    reason = reasons.get(code, Reason.UNKNOWN_FAILURE) if code is not None else Reason.POD_LOST
    said = words.message if words else pod.lost or f"it ended with code {code} and left no message"
    hint = (words.hint if words else "") or f"read its log with `kubectl lora logs {snapshot.where}`"
    return Verdict(
        Standing.TROUBLE if pod.permanent else Standing.WAITING, reason, f"Pod {pod.name} failed: {said}", hint
    )


def _disk_hint(said: str) -> str:
    """Return what helps; only the size of the scratch volume is the user's to choose."""
    volume = full_volume(said)
    if volume == "scratch":
        return "raise spec.resources.scratch"
    if volume is not None:
        return f"let the image of spec.pod.image write to /scratch: the volume {volume} has a fixed size"
    return "have the limit that the LimitRange of the namespace sets for ephemeral-storage raised"


def refused_pods(jobs: Sequence[Document], events: Sequence[Document]) -> Verdict | None:
    """Return why the Job controller could not make a pod, by its newest event."""
    names = {each["metadata"]["name"] for each in jobs}
    told = [
        each
        for each in events
        if each.get("reason") == "FailedCreate" and (each.get("involvedObject") or {}).get("name") in names
    ]
    if not told:
        return None
    return Verdict(
        Standing.TROUBLE,
        Reason.POD_REFUSED,
        f"The cluster refuses the pod: {told[-1].get('message')}",
        "give what the rule of the namespace wants, in spec.resources, spec.pod or spec.scheduling",
    )


def unnoticed_end(jobs: Sequence[Document], snapshot: Snapshot, *, preflight_passed: bool) -> str:
    """Return the Job whose end an operator that runs would have noticed; empty if there is none."""
    for job in jobs:
        ended = true_condition(job, "Complete") or true_condition(job, "Failed")
        name = job["metadata"]["name"]
        if not ended or (name.endswith("-preflight") and preflight_passed):
            continue
        if seconds_since(ended.get("lastTransitionTime"), snapshot.now) > NOTICED_SECONDS:
            return str(name)
    return ""
