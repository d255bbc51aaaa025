"""Explains why a Job has failed: reason, exit code, message, and what the user can change.

Pure text work on what Kubernetes and the trainer left behind. The trainer's own words come first, then the kubelet's,
then the exit code. What keeps a pod waiting is explained in `waiting.py`, `scheduling.py` and `refusals.py`.
"""

import re

from lora_api.artifacts import ArtifactLayout
from lora_api.evictions import exceeds_storage_limit, full_volume
from lora_api.exit_codes import PERMANENT, ExitCode
from lora_api.lorajob_status import Failure
from lora_api.messages import TerminationMessage
from lora_api.names import RESTART_ANNOTATION
from lora_api.reasons import REASON_OF_EXIT_CODE, Reason
from lora_operator.domain.disruptions import EVICTED, describe_disruption, disruption_reason, is_disruption
from lora_operator.domain.observed import ContainerEnd, PodView, Stage, WorkView
from lora_operator.domain.refusals import explain_refusal
from lora_operator.domain.scheduling import explain_unschedulable, unschedulable_failure
from lora_operator.domain.waiting import blocked
from lora_operator.domain.words import last_words, published_by, read_message, shown

__all__ = [
    "HINTS",
    "blocked",
    "describe_disruption",
    "disruption_reason",
    "explain_failed_job",
    "explain_pod",
    "explain_refusal",
    "explain_unschedulable",
    "is_disruption",
    "last_words",
    "published_by",
    "read_message",
    "unschedulable_failure",
    "will_retry",
]

_KILLED = 137
_UNLOCATED = "ContainerStatusUnknown"
"""The kubelet's word for a container that was gone when it came to look."""
_NOT_STARTED = frozenset({"StartError", "ContainerCannotRun"})
_EXIT_CODE = re.compile(r"failed with exit code (\d+)")

_GOES_ON = "the run goes on by itself from its last checkpoint"
_DEADLINE = "spec.failurePolicy.activeDeadlineSeconds"
_THEN_GOES_ON = f"then {_GOES_ON}"
_AGAIN = f"raise spec.failurePolicy.maxFailures, and {_GOES_ON}"
_NEW_RUN = "a changed spec starts a new run by itself"
_ANEW = f"set the annotation {RESTART_ANNOTATION} of the LoRAJob to a new value"
_READ_LOG = "read the log of the pod, or log.jsonl in the folder of the run"
_TRAINER_IMAGE = "name an image made from the trainer's in spec.pod.image: it must run lora-trainer"

HINTS: dict[Reason, str] = {
    Reason.INVALID_REQUEST: "correct the field that the message names in the spec",
    Reason.BAD_DATA: "correct the rows that the message names, or spec.dataset",
    Reason.INPUT_NOT_FOUND: "check spec.baseModel.uri, spec.dataset and spec.output.uri: bucket and path must exist",
    Reason.NO_PERMISSION: "check the keys in spec.storage.credentialsSecretRef or the rights of the ServiceAccount; "
    "for a gated model spec.baseModel.tokenSecretRef too",
    Reason.SERVICE_UNAVAILABLE: "check that spec.storage.endpoint can be reached from the namespace",
    Reason.INTERNAL_ERROR: _READ_LOG,
    Reason.OUT_OF_GPU_MEMORY: "lower spec.training.maxLength, or ask for a larger GPU in spec.scheduling.nodeSelector "
    "or for more of them in spec.resources.gpus",
    Reason.DISK_FULL: "raise spec.resources.scratch",
    Reason.INTERRUPTED: "raise spec.failurePolicy.maxDisruptions",
    Reason.DIVERGED: "lower spec.training.learningRate",
    Reason.GATE_NOT_PASSED: "compare status.adapter.metrics with spec.evaluation.gate; the adapter stays in S3, and a "
    "LoRAAdapter written by hand can serve it all the same",
    Reason.TRAINING_STALLED: f"{_READ_LOG}, for what it waited; if a step may take that long, raise "
    "spec.failurePolicy.stallTimeoutSeconds",
    Reason.OUT_OF_MEMORY: "raise spec.resources.memory",
    Reason.POD_LOST: "raise spec.failurePolicy.maxFailures",
    Reason.DEADLINE_EXCEEDED: f"raise {_DEADLINE}",
    Reason.UNKNOWN_FAILURE: _READ_LOG,
}
"""What to do when the trainer itself left no hint."""

_THEN: dict[Reason, str] = {
    Reason.INVALID_REQUEST: _NEW_RUN,
    Reason.BAD_DATA: f"{_NEW_RUN}; if only the data were changed, {_ANEW}",
    Reason.INPUT_NOT_FOUND: f"{_NEW_RUN}; if it was put where the spec says, {_ANEW}",
    Reason.NO_PERMISSION: f"a changed spec is taken up by itself; if only keys or rights were changed, {_ANEW}, or "
    f"{_AGAIN}",
    Reason.SERVICE_UNAVAILABLE: f"once it answers, {_AGAIN}",
    Reason.INTERNAL_ERROR: f"to try again, {_AGAIN}",
    Reason.OUT_OF_GPU_MEMORY: f"with other resources or nodes {_GOES_ON}, and a changed training starts a new run",
    Reason.DISK_FULL: _THEN_GOES_ON,
    Reason.INTERRUPTED: _THEN_GOES_ON,
    Reason.DIVERGED: _NEW_RUN,
    Reason.GATE_NOT_PASSED: _NEW_RUN,
    Reason.TRAINING_STALLED: f"with a changed limit, or other nodes, {_GOES_ON}",
    Reason.OUT_OF_MEMORY: _THEN_GOES_ON,
    Reason.POD_LOST: _THEN_GOES_ON,
    Reason.DEADLINE_EXCEEDED: _THEN_GOES_ON,
    Reason.UNKNOWN_FAILURE: f"to try again, {_AGAIN}",
}
"""How the job gets going again after the correction: the trainer, which also runs on laptops, does not know."""

_EXITS: dict[int, tuple[str, str]] = {
    126: ("its command cannot be executed (exit code 126)", _TRAINER_IMAGE),
    127: ("its command was not found (exit code 127)", _TRAINER_IMAGE),
    132: (
        "it ran an instruction that the CPU does not know (exit code 132)",
        "choose nodes with newer CPUs in spec.scheduling.nodeSelector",
    ),
    134: ("it aborted (exit code 134), as a native library does on an error", _READ_LOG),
    135: (
        "it crashed with a bus error (exit code 135), as when a volume in memory is full",
        "raise spec.resources.memory",
    ),
    139: (
        "it crashed with a segmentation fault (exit code 139)",
        "a native library does not fit the node: check the GPU driver of the node and spec.pod.image",
    ),
    143: (
        "it was asked to stop, and ended without a checkpoint (exit code 143)",
        "another attempt goes on from the checkpoint before",
    ),
}
"""Exit codes that are not the trainer's: 128 and more mean a signal, 126 and 127 are the shell's."""


def explain_failed_job(work: WorkView, layout: ArtifactLayout) -> Failure:
    """Return why a Job has failed for good."""
    if work.failed_reason == "DeadlineExceeded":  # how its pods ended is only a consequence
        message = f"The run has lasted longer than {_DEADLINE}: {shown(work.failed_message)}"
        return _failure(Reason.DEADLINE_EXCEEDED, message)
    pod = _culprit(work)
    if pod is not None:
        return _of_stage(explain_pod(pod), work)
    said = shown(work.failed_message)
    message = f"The pods of Job {work.child.name} are gone. Kubernetes says: {said or 'nothing'}"
    if code := _EXIT_CODE.search(said):  # the Job controller repeats the code that ended the Job at once
        reason = _reason_of_code(int(code[1]))
        return _failure(reason, message, int(code[1]), f"read {layout.log}; {HINTS[reason]}")
    return _failure(Reason.POD_LOST, message, hint=f"read {layout.log}, and {HINTS[Reason.POD_LOST]}")


def _culprit(work: WorkView) -> PodView | None:
    """Return the pod whose end explains that of its Job.

    It is the newest. When one of several that train together fails, the others are stopped or lose their peer: what
    they say is only a consequence. So a code that ends the Job counts most, then an end of which more is known than
    that something went wrong.
    """
    ended = [pod for pod in work.pods if _has_ended(pod)]
    own = [pod for pod in ended if not is_disruption(pod)]
    newest = {pod.index: pod for pod in own or ended}
    return max(newest.values(), key=lambda pod: (_weight(pod), pod.created), default=None)


def _weight(pod: PodView) -> int:
    if pod.end is not None and pod.end.exit_code in PERMANENT:
        return 2
    return 0 if explain_pod(pod).reason in (Reason.INTERNAL_ERROR, Reason.UNKNOWN_FAILURE) else 1


def _has_ended(pod: PodView) -> bool:
    return pod.phase == "Failed" or (pod.end is not None and pod.end.exit_code != ExitCode.DONE)


def _of_stage(failure: Failure, work: WorkView) -> Failure:
    """Return the failure with a hint that fits a preflight, whose pod has a size of its own."""
    if failure.reason != Reason.OUT_OF_MEMORY or not work.child.name.endswith(f"-{Stage.PREFLIGHT}"):
        return failure
    hint = (
        "give the data as several files, or as parquet, since the preflight has 4Gi whatever spec.resources says; or "
        f"skip it by spec.preflight.enabled: false, {_THEN_GOES_ON}"
    )
    return failure.model_copy(update={"hint": hint})


def explain_pod(pod: PodView) -> Failure:
    """Return why one pod has failed."""
    end = pod.end
    if end is None or pod.lost_reason or end.reason == _UNLOCATED:
        return _explain_lost(pod)
    words = read_message(end)
    if end.reason == "OOMKilled":
        limit = f" of {pod.memory_limit}" if pod.memory_limit else ""
        return _failure(Reason.OUT_OF_MEMORY, f"Pod {pod.name} used more memory than its limit{limit}", end.exit_code)
    if words is not None:
        return _failure(_reason_of(end, words), words.message, end.exit_code, words.hint)
    return _explain_silent(pod, end)


def _explain_silent(pod: PodView, end: ContainerEnd) -> Failure:
    """Return why a container failed that left no words of the trainer."""
    if end.exit_code == _KILLED:
        message = (
            f"Pod {pod.name} was killed (exit code 137): the node was out of memory, or the pod did not end in time "
            "when it was asked to stop"
        )
        return _failure(Reason.OUT_OF_MEMORY, message, end.exit_code)
    if end.reason in _NOT_STARTED:
        message = f"Pod {pod.name} could not start its container: {shown(end.message) or end.reason}"
        return _failure(Reason.UNKNOWN_FAILURE, message, end.exit_code, _TRAINER_IMAGE)
    what, hint = _EXITS.get(end.exit_code, ("", ""))
    message = f"Pod {pod.name} left no message: " + (what or f"it ended with exit code {end.exit_code}")
    return _failure(_reason_of_code(end.exit_code), message, end.exit_code, hint)


def _explain_lost(pod: PodView) -> Failure:
    """Return why a pod ended as a whole, of which its container could say nothing."""
    code = pod.end.exit_code if pod.end else None
    why = shown(pod.lost_message) or pod.lost_reason or (pod.end.message if pod.end else "") or "no reason given"
    if pod.lost_reason == EVICTED and (volume := full_volume(why)):
        hint, then = _volume_hint(volume)
        return _failure(Reason.DISK_FULL, f"Pod {pod.name} was evicted: {why}", code, hint, then)
    if pod.lost_reason == EVICTED and exceeds_storage_limit(why):
        hint = "have the limit that the LimitRange of the namespace sets for ephemeral-storage raised"
        return _failure(Reason.DISK_FULL, f"Pod {pod.name} was evicted: {why}", code, hint, f"then {_AGAIN}")
    if pod.disrupted:
        return _failure(Reason.POD_LOST, describe_disruption(pod), code)
    return _failure(Reason.POD_LOST, f"Pod {pod.name} was lost: {why}", code)


def _volume_hint(volume: str) -> tuple[str, str]:
    """Return what helps against a full volume; only the size of the scratch volume is the user's to choose."""
    if volume == "scratch":
        return "", ""
    return f"the volume {volume} has a fixed size: let the image of spec.pod.image write to /scratch", f"then {_AGAIN}"


def _reason_of(end: ContainerEnd, words: TerminationMessage) -> Reason:
    """Return the trainer's reason if it is one of a failure; an image of the user may say anything."""
    known = words.reason in set(REASON_OF_EXIT_CODE.values())
    return Reason(words.reason) if known else _reason_of_code(end.exit_code)


def _reason_of_code(code: int) -> Reason:
    known = {each.value: reason for each, reason in REASON_OF_EXIT_CODE.items()}
    return known.get(code, Reason.UNKNOWN_FAILURE)


def _failure(reason: Reason, message: str, code: int | None = None, hint: str = "", then: str = "") -> Failure:
    advice = "; ".join(each for each in (hint or HINTS.get(reason, ""), then or _THEN.get(reason, "")) if each)
    return Failure(reason=reason, exit_code=code, message=message[:2000], hint=advice)


def will_retry(work: WorkView) -> bool:
    """Return whether another pod follows the failed one. The Job controller takes a moment to say so itself."""
    failed = [pod for pod in work.pods if _has_ended(pod) and not is_disruption(pod)]
    if any(pod.end is not None and pod.end.exit_code in PERMANENT for pod in failed):
        return False
    return max(len(failed), work.failures) <= work.retries
