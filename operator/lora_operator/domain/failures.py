"""Explains why a pod does not start or a Job has failed: reason, message, and what the user can change.

Pure text work on what Kubernetes and the trainer left behind. The trainer's own words come first, then the exit code,
then the kubelet's.
"""

import re

from lora_api.artifacts import ArtifactLayout
from lora_api.exit_codes import PERMANENT, ExitCode
from lora_api.lorajob import LoRAJobSpec
from lora_api.lorajob_status import Failure
from lora_api.messages import TerminationMessage
from lora_api.reasons import REASON_OF_EXIT_CODE, Reason
from lora_operator.domain.errors import RefusedError, Stall
from lora_operator.domain.numbers import load_finite
from lora_operator.domain.observed import ContainerEnd, PodView, WorkView

_KILLED = 137
"""128 + SIGKILL: what a container shows that the kernel killed for its memory."""
_IMAGE_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_MISSING_SECRET = re.compile(r'secret "(?P<name>[^"]+)" not found')
_MISSING_KEY = re.compile(r"couldn't find key (?P<key>\S+) in Secret (?P<name>\S+)")
_MISSING_ACCOUNT = re.compile(r'serviceaccount "(?P<name>[^"]+)" not found')
_RECREATE = "delete the LoRAJob and apply it again"

HINTS: dict[Reason, str] = {
    Reason.OUT_OF_MEMORY: f"raise spec.resources.memory, then {_RECREATE}",
    Reason.OUT_OF_GPU_MEMORY: f"lower spec.training.maxLength, or ask for a larger GPU, then {_RECREATE}",
    Reason.DISK_FULL: f"raise spec.resources.scratch, then {_RECREATE}",
    Reason.SERVICE_UNAVAILABLE: "check that spec.storage.endpoint can be reached from the namespace",
    Reason.NO_PERMISSION: "check the keys in spec.storage.credentialsSecretRef or the rights of the ServiceAccount; "
    "for a gated model spec.baseModel.tokenSecretRef too",
    Reason.INPUT_NOT_FOUND: "check spec.baseModel.uri and spec.dataset: bucket and path must exist",
    Reason.DIVERGED: f"lower spec.training.learningRate, then {_RECREATE}",
    Reason.GATE_NOT_PASSED: "compare status.adapter.metrics with spec.evaluation.gate; the adapter stays in S3, and a "
    "LoRAAdapter written by hand can serve it all the same",
    Reason.POD_LOST: f"{_RECREATE}",
    Reason.UNKNOWN_FAILURE: "read the log of the pod, or log.jsonl in the folder of the run",
    Reason.INTERNAL_ERROR: "read the log of the pod, or log.jsonl in the folder of the run",
}
"""What to do when the trainer itself left no hint."""


def read_message(end: ContainerEnd | None) -> TerminationMessage | None:
    """Return the trainer's last words; None when there are none, or when they are not the trainer's."""
    if end is None or not end.message:
        return None
    try:
        return TerminationMessage.model_validate(load_finite(end.message))
    except ValueError:
        return None


def last_words(work: WorkView) -> TerminationMessage | None:
    """Return the message of the newest pod of a Job that left one with exit code 0."""
    done = [pod.end for pod in work.pods if pod.end is not None and pod.end.exit_code == ExitCode.DONE]
    return read_message(done[-1]) if done else None


def published_by(work: WorkView) -> TerminationMessage | None:
    """Return the last words of a pod that published an adapter which did not pass its gate; None if none did."""
    pod = work.newest
    gated = pod is not None and pod.end is not None and pod.end.exit_code == ExitCode.GATE_NOT_PASSED
    return read_message(pod.end) if pod and gated else None


def explain_failed_job(work: WorkView, layout: ArtifactLayout) -> Failure:
    """Return why a Job has failed for good."""
    ended = [pod for pod in work.pods if _has_ended(pod)]
    if ended:
        return explain_pod(ended[-1])
    if work.failed_reason == "DeadlineExceeded":
        return _failure(Reason.DEADLINE_EXCEEDED, work.failed_message, hint="raise spec.failurePolicy")
    message = f"The pods of Job {work.child.name} are gone. Kubernetes says: {work.failed_message or 'nothing'}"
    return _failure(Reason.POD_LOST, message, hint=f"read {layout.log}, then {_RECREATE}")


def _has_ended(pod: PodView) -> bool:
    return pod.phase == "Failed" or (pod.end is not None and pod.end.exit_code != ExitCode.DONE)


def explain_pod(pod: PodView) -> Failure:
    """Return why one pod has failed."""
    end = pod.end
    if end is None or pod.lost_reason:
        return _explain_lost(pod)
    message = read_message(end)
    if end.reason == "OOMKilled" or (end.exit_code == _KILLED and message is None):
        return _failure(Reason.OUT_OF_MEMORY, f"Pod {pod.name} used more memory than it may", code=end.exit_code)
    reason = _reason_of(end, message)
    if message is None:
        return _failure(
            reason, f"Pod {pod.name} ended with exit code {end.exit_code} and left no message", end.exit_code
        )
    return _failure(reason, message.message, end.exit_code, message.hint)


def _explain_lost(pod: PodView) -> Failure:
    why = pod.lost_message or pod.lost_reason or "no reason given"
    full = pod.lost_reason == "Evicted" and ("EmptyDir" in why or "ephemeral" in why)
    reason = Reason.DISK_FULL if full else Reason.POD_LOST
    return _failure(reason, f"Pod {pod.name} was lost: {why}", code=pod.end.exit_code if pod.end else None)


def _reason_of(end: ContainerEnd, message: TerminationMessage | None) -> Reason:
    """Return the trainer's reason if it is one of a failure; an image of the user may say anything."""
    if message is not None and message.reason in set(REASON_OF_EXIT_CODE.values()):
        return Reason(message.reason)
    known = {code.value: reason for code, reason in REASON_OF_EXIT_CODE.items()}
    return known.get(end.exit_code, Reason.UNKNOWN_FAILURE)


def _failure(reason: Reason, message: str, code: int | None = None, hint: str = "") -> Failure:
    return Failure(reason=reason, exit_code=code, message=message[:2000], hint=hint or HINTS.get(reason, ""))


def is_disruption(pod: PodView) -> bool:
    """Return whether a pod ended through no fault of the job."""
    return pod.phase == "Failed" and (
        pod.disrupted or (pod.end is not None and pod.end.exit_code == ExitCode.INTERRUPTED)
    )


def will_retry(work: WorkView) -> bool:
    """Return whether another pod follows the failed one. The Job controller takes a moment to say so itself."""
    failed = [pod for pod in work.pods if _has_ended(pod) and not is_disruption(pod)]
    if not failed or work.newest is not failed[-1]:
        return True
    end = failed[-1].end
    return len(failed) <= work.retries and (end is None or end.exit_code not in PERMANENT)


def blocked(work: WorkView, spec: LoRAJobSpec | None) -> Stall | None:
    """Return why the current pod of a Job cannot start without the user, or None. The spec tells a Secret's use."""
    if work.newest is None:
        return _refused_pod(work.failed_create) if work.failed_create else None
    return _waiting(work.newest, spec)


def _waiting(pod: PodView, spec: LoRAJobSpec | None) -> Stall | None:
    reason, message = pod.waiting_reason, pod.waiting_message
    if reason in _IMAGE_REASONS:
        hint = f"check spec.pod.image and spec.pod.imagePullSecrets; to change them, {_RECREATE}"
        return Stall(Reason.IMAGE_PULL_FAILED, f"Pod {pod.name} cannot pull its image: {message or reason}", hint)
    if reason not in _CONFIG_REASONS:
        return None
    if missing := _MISSING_SECRET.search(message):
        return _missing_secret(missing["name"], f'Secret "{missing["name"]}" does not exist', spec)
    if missing := _MISSING_KEY.search(message):
        name = missing["name"].rsplit("/", 1)[-1]
        return _missing_secret(name, f'Secret "{name}" has no key {missing["key"]}', spec)
    return Stall(Reason.POD_REFUSED, f"Pod {pod.name} cannot start: {message or reason}", "check spec.pod")


def _missing_secret(name: str, message: str, spec: LoRAJobSpec | None) -> Stall:
    keys, field = _use_of_secret(name, spec)
    hint = (
        f'create Secret "{name}" with {keys} in the namespace of the job, and the job goes on by itself; '
        f"or correct {field}, then {_RECREATE}"
    )
    return Stall(Reason.SECRET_NOT_FOUND, message, hint)


def _use_of_secret(name: str, spec: LoRAJobSpec | None) -> tuple[str, str]:
    """Return the keys that a Secret of the job must have, and the field that names it."""
    token = spec.base_model.token_secret_ref if spec else None
    credentials = spec.storage.credentials_secret_ref if spec else None
    if token is not None and token.name == name and (credentials is None or credentials.name != name):
        return f"the key {token.key}", "spec.baseModel.tokenSecretRef"
    return "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "spec.storage.credentialsSecretRef.name"


def _refused_pod(message: str) -> Stall:
    if missing := _MISSING_ACCOUNT.search(message):
        name = missing["name"]
        hint = f'create ServiceAccount "{name}", or correct spec.scheduling.serviceAccountName, then {_RECREATE}'
        return Stall(Reason.SERVICE_ACCOUNT_NOT_FOUND, f'ServiceAccount "{name}" does not exist', hint)
    return _refusal(message)


def _refusal(message: str) -> Stall:
    if "exceeded quota" in message or "must specify" in message:
        hint = "ask for less in spec.resources, or have the ResourceQuota of the namespace raised"
        return Stall(Reason.QUOTA_EXCEEDED, message, hint)
    return Stall(Reason.POD_REFUSED, message, "have the policy of the namespace changed, or change what it names")


def explain_refusal(error: RefusedError) -> Stall:
    """Return what the user can do about an object that the API server did not take."""
    message = f"{error.subject} was refused: {error.message}"
    if error.status == 403:
        return _refusal(message)
    return Stall(
        Reason.INVALID_SPEC, message, "correct the field that the message names, in spec.pod or spec.scheduling"
    )
