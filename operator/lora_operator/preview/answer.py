"""The answer to a question about a LoRAJob: its objects, the policy's verdict, and what a reader must know. Pure."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated

from pydantic import Field, ValidationError

from lora_api.base import StatusModel
from lora_api.lorajob import LoRAJobSpec
from lora_api.messages import AdapterResult
from lora_api.preview import (
    PREVIEW_UID,
    PREVIEW_VERSION,
    PreviewAnswer,
    PreviewRequest,
    PublishedAdapter,
    Refusal,
)
from lora_operator.domain.adapter import build_adapter
from lora_operator.domain.checks import first_violation
from lora_operator.domain.config_document import ConfigError, read_config_text
from lora_operator.domain.errors import Stall
from lora_operator.domain.observed import Document, ObservedJob
from lora_operator.domain.policy import Policy, rules_for
from lora_operator.domain.reading import read_job
from lora_operator.domain.settings import Settings
from lora_operator.domain.status import is_finished
from lora_operator.domain.wishes import is_corrected, is_settled, wants_new_run
from lora_operator.preview.passes import objects_of

_UNPUBLISHED = AdapterResult(uri="", digest="", bytes=0)
"""What a run publishes is not known before it has ended; of the LoRAAdapter only its names are told."""


class QuestionError(Exception):
    """The question cannot be understood; one line says why."""


def read_question(text: str | bytes) -> PreviewRequest:
    """Read the question. Raises `QuestionError`; the values of the job are never in it."""
    try:
        request = PreviewRequest.model_validate_json(text)
    except ValidationError as error:
        raise QuestionError(_in_words(text, error)) from None
    if request.version != PREVIEW_VERSION:
        raise QuestionError(_other_version(request.version))
    return request


def _in_words(text: str | bytes, error: ValidationError) -> str:
    """Say what is wrong. A question of another version has other fields, so its version is the fault."""
    try:
        version = _Head.model_validate_json(text).version
    except ValidationError:
        version = PREVIEW_VERSION
    if version != PREVIEW_VERSION:
        return _other_version(version)
    return f"the question{_place(error)}; `kubectl lora plan` asks as it should"


def _other_version(version: int) -> str:
    return (
        f"version: the question has version {version}, and this operator answers version {PREVIEW_VERSION}; "
        "install kubectl-lora and the operator's package of one release"
    )


def answer(request: PreviewRequest, now: datetime) -> PreviewAnswer:
    """Return what the operator would do. Raises `QuestionError` for a document that is no LoRAJob."""
    job = _resumed(_read(request))
    policy, fault = _policy(request.config)
    settings = Settings(request.trainer_image, policy=policy or Policy())
    stall = first_violation(job, settings)
    rests = job.deleting or is_settled(job)
    return PreviewAnswer(
        objects=[] if rests else objects_of(job, settings, now),
        adapter=None if rests or stall or job.spec is None else _adapter(job, job.spec),
        refusal=_refusal(stall) if stall else None,
        rules=None if policy is None or rests else len(rules_for(policy, job.namespace)),
        config_fault=fault,
        notes=_notes(request, job),
    )


def _read(request: PreviewRequest) -> ObservedJob:
    try:
        _Job.model_validate(request.job)
    except ValidationError as error:
        raise QuestionError(f"job{_place(error)}; give a LoRAJob") from None
    said = {name: value for name, value in request.job["metadata"].items() if value is not None}
    known: Document = {"uid": PREVIEW_UID} | said | {"namespace": request.namespace}
    try:
        return read_job(request.job | {"metadata": known})
    except ValidationError as error:
        hint = "this release cannot read it: install the release of the cluster's operator"
        raise QuestionError(f"job.status{_place(error)}; {hint}") from None
    except ValueError as error:
        raise QuestionError(f"job.metadata: {error}; leave out what the API server writes") from None


def _place(error: ValidationError) -> str:
    """Return where a value is wrong, and how, without the value."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{''.join(f'.{each}' for each in first['loc'])}: {first['msg']}"


def _resumed(job: ObservedJob) -> ObservedJob:
    """Return the job as it is when nobody suspends it: what it would be is the question."""
    if job.spec is None or not job.spec.suspend:
        return job
    return replace(job, spec=job.spec.model_copy(update={"suspend": False}))


def _policy(config: str | None) -> tuple[Policy | None, str]:
    """Return the policy, or None and what is wrong with the file that has it."""
    if config is None:
        return None, ""
    try:
        return read_config_text(config).policy, ""
    except ConfigError as error:
        return None, str(error)


def _refusal(stall: Stall) -> Refusal:
    return Refusal(reason=stall.reason.value, message=stall.message, hint=stall.hint)


def _adapter(job: ObservedJob, spec: LoRAJobSpec) -> PublishedAdapter | None:
    if not spec.adapter.create:
        return None
    document = build_adapter(job, spec, _UNPUBLISHED, None)
    return PublishedAdapter(name=document["metadata"]["name"], served_name=document["spec"]["servedName"])


def _notes(request: PreviewRequest, job: ObservedJob) -> list[str]:
    spec = request.job.get("spec")
    suspended = isinstance(spec, dict) and bool(spec.get("suspend"))
    waits = ["spec.suspend is true: nothing is created until it is false"] if suspended else []
    return [*waits, *_of_run(job)]


def _of_run(job: ObservedJob) -> list[str]:
    """Say what becomes of a run that there is already."""
    run = job.status.run
    if job.deleting:
        return ["the LoRAJob is being deleted: nothing is created for it any more"]
    if run is None or job.spec is None:
        return []
    if wants_new_run(job):
        return [f"run {run} makes way for run {run + 1}: another adapter, or a restart, is asked for"]
    if is_settled(job):
        return [f"run {run} has ended, and the file asks for nothing else: nothing is created"]
    if is_finished(job.status):
        return [f"run {run} has failed, and goes on with what was corrected"]
    changed = "; a Job that waits for its pod is made anew, one that runs is left alone" if is_corrected(job) else ""
    return [f"run {run} goes on: what it has of its objects already is not made again{changed}"]


class _Head(StatusModel):
    """The version of a question, whatever else it says."""

    version: int = PREVIEW_VERSION


class _Metadata(StatusModel):
    """What of a LoRAJob's metadata is read without looking twice."""

    name: Annotated[str, Field(min_length=1)]
    uid: Annotated[str, Field(min_length=1)] | None = None
    generation: Annotated[int, Field(ge=1, strict=True)] | None = None
    finalizers: list[str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: str | None = None


class _Status(StatusModel):
    """The same of its status."""

    phase: str | None = None


class _Job(StatusModel):
    """The same of all of it."""

    metadata: _Metadata
    status: _Status | None = None
