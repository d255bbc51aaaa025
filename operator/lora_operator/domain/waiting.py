"""Explains why a pod that has a Job cannot start without the user: image, Secret, claim, or a refused pod.

Everything here heals by itself once the missing thing is there: the Job is left as it is, and one whose fields were
corrected is made anew.
"""

import re

from lora_api.lorajob import LoRAJobSpec
from lora_api.reasons import Reason
from lora_operator.domain.errors import Stall
from lora_operator.domain.observed import PodView, WorkView
from lora_operator.domain.refusals import explain_refused_pod
from lora_operator.domain.words import shown

_IMAGE_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_MISSING_SECRET = re.compile(r'secret "(?P<name>[^"]+)" not found')
_MISSING_KEY = re.compile(r"couldn't find key (?P<key>\S+) in Secret (?P<name>\S+)")
_MISSING_CLAIM = re.compile(r'persistentvolumeclaim "(?P<name>[^"]+)" (?P<what>not found|is being deleted)')
_GOES_ON = "the job goes on by itself"


def blocked(work: WorkView, spec: LoRAJobSpec | None) -> Stall | None:
    """Return why the current pod of a Job cannot start without the user, or None. The spec tells a Secret's use."""
    if work.failed_create:
        return explain_refused_pod(work.failed_create)
    stalls = (_waiting(pod, spec) for pod in _current(work))
    return next((stall for stall in stalls if stall is not None), None)


def _current(work: WorkView) -> list[PodView]:
    """Return the newest pod of each of those that train together, the first of them first."""
    newest = {pod.index: pod for pod in work.pods}
    return [newest[index] for index in sorted(newest)]


def _waiting(pod: PodView, spec: LoRAJobSpec | None) -> Stall | None:
    reason, message = pod.waiting_reason, pod.waiting_message
    if pod.phase == "Failed":  # taken away while it waited: what kept it is said by the next pod
        return None
    if not pod.node and (missing := _MISSING_CLAIM.search(pod.unschedulable)):
        return _missing_claim(missing["name"], missing["what"], spec)
    if reason in _IMAGE_REASONS:
        text = f"Pod {pod.name} cannot pull its image: {shown(message) or reason}"
        return Stall(Reason.IMAGE_PULL_FAILED, text, _image_hint(reason, message, spec))
    if reason not in _CONFIG_REASONS:
        return None
    if missing := _MISSING_SECRET.search(message):
        return _missing_secret(missing["name"], f'Secret "{missing["name"]}" does not exist', spec)
    if missing := _MISSING_KEY.search(message):
        name = missing["name"].rsplit("/", 1)[-1]
        return _missing_secret(name, f'Secret "{name}" has no key {missing["key"]}', spec)
    text = f"Pod {pod.name} cannot start: {shown(message) or reason}"
    return Stall(Reason.POD_REFUSED, text, f"correct what the message names, most likely spec.pod.image; {_GOES_ON}")


def _image_hint(reason: str, message: str, spec: LoRAJobSpec | None) -> str:
    """Return what helps against a failed pull, by the words of the registry or of the node."""
    if spec is not None and spec.pod.image is None:
        hint = _pull_hint(reason, message, "the operator's own trainer image")
        return f"{hint}; LORA_TRAINER_IMAGE of the operator names it, and spec.pod.image may name another; {_GOES_ON}"
    return f"{_pull_hint(reason, message, 'spec.pod.image')}; {_GOES_ON}"


def _pull_hint(reason: str, message: str, image: str) -> str:
    if reason == "InvalidImageName":
        return f"correct the spelling of {image}: host/path:tag in small letters"
    return next((hint for words, hint in _PULL_HINTS if words.search(message)), _PULL_HINT).format(image=image)


_PULL_HINT = "correct {image}, or name the Secret with its registry's login in spec.pod.imagePullSecrets"
_LIMITED = "wait, since the registry limits pulls; or log in to it by a Secret named in spec.pod.imagePullSecrets"
_LOGIN = (
    "name a Secret of type kubernetes.io/dockerconfigjson that may pull it in spec.pod.imagePullSecrets, and check "
    "that it exists in the namespace; or correct {image}"
)
_UNREACHABLE = "check that the nodes reach the registry, and the name of its host in {image}"
_PULL_HINTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"429|toomanyrequests|rate limit", re.IGNORECASE), _LIMITED),
    (re.compile(r"unauthorized|authentication|authoriz|denied|credentials|\b40[13]\b", re.IGNORECASE), _LOGIN),
    (re.compile(r"no match for platform|no matching manifest"), "use an image for the CPUs of the nodes: {image}"),
    (re.compile(r"no such host|timeout|connection refused|dial tcp|x509|tls", re.IGNORECASE), _UNREACHABLE),
    (re.compile(r"not ?found|unknown", re.IGNORECASE), "correct {image}: the registry has no such name or tag"),
)
"""What a registry or a node says, and what helps; the first that is found decides."""


def _missing_claim(name: str, what: str, spec: LoRAJobSpec | None) -> Stall:
    state = "does not exist" if what == "not found" else what
    fields = " and ".join(_uses_of_claim(name, spec)) or "the field that names it"
    hint = f'create PersistentVolumeClaim "{name}" in the namespace of the job, or correct {fields}; {_GOES_ON}'
    return Stall(Reason.CLAIM_NOT_FOUND, f'PersistentVolumeClaim "{name}" {state}', hint)


def _uses_of_claim(name: str, spec: LoRAJobSpec | None) -> list[str]:
    """Return the fields that name a claim."""
    if spec is None:
        return []
    dataset, retention = spec.dataset, spec.evaluation and spec.evaluation.retention
    uris = {
        "spec.baseModel.uri": spec.base_model.uri,
        "spec.dataset.train.uri": dataset.train.uri,
        **{f"spec.dataset.mixture[{index}].uri": each.uri for index, each in enumerate(dataset.mixture)},
        "spec.dataset.validation.uri": dataset.validation.uri if dataset.validation else None,
        "spec.evaluation.retention.uri": retention.uri if retention else None,
    }
    found = [field for field, uri in uris.items() if uri and uri.startswith(f"pvc://{name}/")]
    return found + ["spec.baseModel.cacheClaimName"] * (spec.base_model.cache_claim_name == name)


def _missing_secret(name: str, message: str, spec: LoRAJobSpec | None) -> Stall:
    keys, field = _use_of_secret(name, spec)
    hint = f'create Secret "{name}" with {keys} in the namespace of the job, or correct {field}; {_GOES_ON}'
    return Stall(Reason.SECRET_NOT_FOUND, message, hint)


def _use_of_secret(name: str, spec: LoRAJobSpec | None) -> tuple[str, str]:
    """Return the keys that a Secret of the job must have, and the field that names it."""
    token = spec.base_model.token_secret_ref if spec else None
    credentials = spec.storage.credentials_secret_ref if spec else None
    if token is not None and token.name == name and (credentials is None or credentials.name != name):
        return f"the key {token.key}", "spec.baseModel.tokenSecretRef"
    return "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "spec.storage.credentialsSecretRef.name"
