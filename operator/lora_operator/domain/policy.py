"""What an administrator allows the jobs of a namespace: images, places, sizes and duties.

Pure: a policy and a job in, the first breach out. Every rule that names the job's namespace must be satisfied, so a
further rule can only narrow. Reading the policy from a file is the business of `app`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import ConfigDict, Field

from lora_api.base import ApiModel, ShortString
from lora_api.lorajob import LoRAJobSpec
from lora_api.reasons import Reason
from lora_operator.domain.errors import Stall
from lora_operator.domain.observed import ObservedJob
from lora_operator.domain.patterns import Pattern, UriPattern, matches_any

_DEFAULT_ENDPOINT: Final = "https://s3.amazonaws.com"
"""What a job without an endpoint is checked as."""
_S3_ENDPOINT_VARIABLES: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_ENDPOINT_VARIABLES: Final = (*_S3_ENDPOINT_VARIABLES, "HF_ENDPOINT")
"""Variables of `spec.pod.env` that turn a URI to another server."""
_SHOWN_PATTERNS: Final = 5
_SHOWN_VALUE: Final = 200
_ASK: Final = "or ask who runs the operator"

Names = Annotated[tuple[Pattern, ...], Field(max_length=64)]
Uris = Annotated[tuple[UriPattern, ...], Field(max_length=64)]


class PolicyRule(ApiModel):
    """What the jobs of some namespaces may ask for.

    A list that is left out restricts nothing, and an empty one allows nothing.
    """

    model_config = ConfigDict(strict=True)

    name: ShortString | None = None
    """What messages call the rule. Default: its number."""
    namespaces: Annotated[tuple[Pattern, ...], Field(min_length=1, max_length=64)]
    """Namespaces that the rule is for."""
    images: Names | None = None
    """Images of the pods (`spec.pod.image`). The operator's own default is always allowed."""
    base_models: Uris | None = None
    """Base models (`spec.baseModel.uri`)."""
    datasets: Uris | None = None
    """Data: training, mixture, validation and retention sets."""
    outputs: Uris | None = None
    """Folders that a job publishes to: `spec.output.uri`, with the namespace and name of the job added."""
    endpoints: Uris | None = None
    """Servers: `spec.storage.endpoint`, and the variables of `spec.pod.env` that name one."""
    env_names: Names | None = None
    """Names of variables in `spec.pod.env`."""
    service_account_names: Names | None = None
    """ServiceAccounts of the pods. A job that names none uses `default`."""
    queue_names: Names | None = None
    """Kueue LocalQueues."""
    max_gpus: Annotated[int | None, Field(ge=0, alias="maxGPUs")] = None
    """Most GPUs of one job: `spec.resources.gpus` times `nodes`."""
    require_queue: bool = False
    """A job must name a queue (`spec.scheduling.queueName`)."""
    require_deadline: bool = False
    """A job must have a deadline (`spec.failurePolicy.activeDeadlineSeconds`)."""


class Policy(ApiModel):
    """All rules. Without any, nothing is restricted."""

    model_config = ConfigDict(strict=True)

    rules: Annotated[tuple[PolicyRule, ...], Field(max_length=256)] = ()
    """Every rule whose namespaces match must be satisfied."""


@dataclass(frozen=True, slots=True)
class _Use:
    """One value of a job, and the patterns that a rule has for it."""

    field: str
    value: str
    patterns: tuple[str, ...] | None
    secret: bool = False
    """The value of a variable: it is compared, and never shown."""

    @property
    def allowed(self) -> bool:
        return self.patterns is None or matches_any(self.patterns, self.value)


def violation(policy: Policy, job: ObservedJob, *, trainer_image: str = "") -> Stall | None:
    """Return the first breach of the policy, or None. `trainer_image` is the default image, which nobody may forbid."""
    if job.spec is None:
        return None
    for number, rule in rules_for(policy, job.namespace).items():
        stall = _breach(rule, _title(rule, number), job, job.spec, trainer_image)
        if stall is not None:
            return stall
    return None


def rules_for(policy: Policy, namespace: str) -> dict[int, PolicyRule]:
    """Return the rules that the jobs of a namespace must satisfy, by their number in the policy."""
    numbered = enumerate(policy.rules, start=1)
    return {number: rule for number, rule in numbered if matches_any(rule.namespaces, namespace)}


def _title(rule: PolicyRule, number: int) -> str:
    return f"rule {rule.name!r} of the operator's policy" if rule.name else f"rule {number} of the operator's policy"


def _breach(rule: PolicyRule, title: str, job: ObservedJob, spec: LoRAJobSpec, trainer_image: str) -> Stall | None:
    for use in _uses(rule, job, spec, trainer_image):
        if not use.allowed:
            return _not_allowed(use, title)
    return _missing(rule, title, spec) or _too_many_gpus(rule, title, spec)


def _uses(rule: PolicyRule, job: ObservedJob, spec: LoRAJobSpec, trainer_image: str) -> Iterator[_Use]:
    """Give every value of the job that patterns may restrict."""
    if spec.pod.image and spec.pod.image != trainer_image:
        yield _Use("spec.pod.image", spec.pod.image, rule.images)
    yield _Use("spec.baseModel.uri", spec.base_model.uri, rule.base_models)
    for field, uri in _data(spec):
        yield _Use(field, uri, rule.datasets)
    yield _Use("spec.output.uri", f"{spec.output.uri.rstrip('/')}/{job.namespace}/{job.name}", rule.outputs)
    yield from _endpoints(rule, spec)
    for variable in spec.pod.env:
        yield _Use("spec.pod.env", variable.name, rule.env_names)
    account = spec.scheduling.service_account_name or "default"
    yield _Use("spec.scheduling.serviceAccountName", account, rule.service_account_names)
    if spec.scheduling.queue_name:
        yield _Use("spec.scheduling.queueName", spec.scheduling.queue_name, rule.queue_names)


def _data(spec: LoRAJobSpec) -> Iterator[tuple[str, str]]:
    """Give every set of rows that the job reads, by its field."""
    dataset, retention = spec.dataset, spec.evaluation and spec.evaluation.retention
    yield "spec.dataset.train.uri", dataset.train.uri
    for index, each in enumerate(dataset.mixture):
        yield f"spec.dataset.mixture[{index}].uri", each.uri
    if dataset.validation and dataset.validation.uri:
        yield "spec.dataset.validation.uri", dataset.validation.uri
    if retention:
        yield "spec.evaluation.retention.uri", retention.uri


def _endpoints(rule: PolicyRule, spec: LoRAJobSpec) -> Iterator[_Use]:
    """Give the servers behind the URIs: a bucket of the right name on another server is another bucket."""
    variables = {each.name: each.value for each in spec.pod.env}
    if spec.storage.endpoint:
        yield _Use("spec.storage.endpoint", spec.storage.endpoint.rstrip("/"), rule.endpoints)
    elif not any(variables.get(name) for name in _S3_ENDPOINT_VARIABLES):
        yield _Use("spec.storage.endpoint", _DEFAULT_ENDPOINT, rule.endpoints)
    for name in _ENDPOINT_VARIABLES:
        if value := variables.get(name):
            yield _Use(f"spec.pod.env, {name}", value.rstrip("/"), rule.endpoints, secret=True)


def _missing(rule: PolicyRule, title: str, spec: LoRAJobSpec) -> Stall | None:
    if rule.require_queue and not spec.scheduling.queue_name:
        queues = f", one of {_shown(rule.queue_names)}" if rule.queue_names else ""
        message = f"spec.scheduling.queueName: is not set, and {title} requires a queue"
        return Stall(Reason.NOT_ALLOWED, message, f"name a queue{queues}, {_ASK}")
    if rule.require_deadline and spec.failure_policy.active_deadline_seconds is None:
        message = f"spec.failurePolicy.activeDeadlineSeconds: is not set, and {title} requires a deadline"
        return Stall(Reason.NOT_ALLOWED, message, f"set a deadline in seconds, {_ASK}")
    return None


def _too_many_gpus(rule: PolicyRule, title: str, spec: LoRAJobSpec) -> Stall | None:
    gpus, nodes = spec.resources.gpus, spec.resources.nodes
    if rule.max_gpus is None or gpus * nodes <= rule.max_gpus:
        return None
    asked = f"{gpus} on each of {nodes} nodes are {gpus * nodes} GPUs" if nodes > 1 else f"{gpus}"
    message = f"spec.resources.gpus: {asked}, and {title} allows {rule.max_gpus} a job"
    return Stall(Reason.NOT_ALLOWED, message, f"use at most {rule.max_gpus} GPUs in all, {_ASK}")


def _not_allowed(use: _Use, title: str) -> Stall:
    value = "its value" if use.secret else use.value[:_SHOWN_VALUE]
    message = f"{use.field}: {value} is not allowed: {title} allows {_shown(use.patterns)}"
    advice = f"use {_shown(use.patterns)}" if use.patterns else "remove it"
    return Stall(Reason.NOT_ALLOWED, message, f"{advice}, {_ASK}")


def _shown(patterns: tuple[str, ...] | None) -> str:
    if not patterns:
        return "none"
    more = len(patterns) - _SHOWN_PATTERNS
    return " ".join(patterns[:_SHOWN_PATTERNS]) + (f" and {more} more" if more > 0 else "")
