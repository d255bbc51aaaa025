"""Reads Kubernetes objects (JSON) into the snapshot of `observed.py`.

Tolerant on purpose: every field may be missing, because a newer cluster, a user's image or a half-written object must
never stop the reconciliation of a job. Only a status that nobody but the operator writes is read strictly.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from lora_api.base import ApiModel
from lora_api.loraadapter import LoRAAdapterSpec, LoRAAdapterStatus
from lora_api.lorajob import LoRAJobSpec
from lora_api.lorajob_status import LoRAJobStatus, Phase
from lora_api.names import (
    ATTEMPT_DIGEST_ANNOTATION,
    JOB_LABEL,
    JOB_UID_ANNOTATION,
    QUEUE_LABEL,
    RESTART_ANNOTATION,
    SPEC_DIGEST_ANNOTATION,
    TRAINER_CONTAINER,
)
from lora_operator.domain.observed import (
    AdapterView,
    Child,
    ContainerEnd,
    Document,
    ObservedAdapter,
    ObservedJob,
    Ownership,
    PodView,
    WorkloadView,
    WorkView,
)

_Spec = TypeVar("_Spec", bound=ApiModel)


def read_job(document: Document) -> ObservedJob:
    """Read a LoRAJob. A spec that the types refuse, though the CRD took it, becomes `spec_error`."""
    meta = document["metadata"]
    spec, error = _read_spec(LoRAJobSpec, document.get("spec") or {})
    return ObservedJob(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        generation=meta.get("generation", 1),
        spec=spec,
        spec_error=error,
        deleting="deletionTimestamp" in meta,
        finalizers=tuple(meta.get("finalizers") or ()),
        version=meta.get("resourceVersion", ""),
        restart=(meta.get("annotations") or {}).get(RESTART_ANNOTATION, ""),
        created=_time(meta.get("creationTimestamp")),
        status=read_status(document.get("status") or {}),
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _read_spec(kind: type[_Spec], spec: Document) -> tuple[_Spec | None, str]:
    try:
        return kind.model_validate(spec), ""
    except ValidationError as error:
        return None, "; ".join(_explain(each) for each in error.errors()[:8])


def _explain(error: Any) -> str:
    path = ".".join(["spec", *(str(part) for part in error["loc"])])
    value = error.get("input")
    shown = "" if isinstance(value, dict | list) else f" (got {str(value)[:80]!r})"
    return f"{path}: {error['msg']}{shown}"


def read_status(status: Document) -> LoRAJobStatus:
    """Read `status`. A phase of a newer version is dropped: it is derived and never read back."""
    known = {each.value for each in Phase}
    return LoRAJobStatus.model_validate(
        {key: value for key, value in status.items() if key != "phase" or value in known}
    )


def read_child(document: Document, job: ObservedJob) -> Child:
    """Read whose an object at one of our names is."""
    meta = document["metadata"]
    annotations = meta.get("annotations") or {}
    return Child(
        kind=document.get("kind", ""),
        name=meta["name"],
        ownership=_ownership(meta, job),
        uid=meta.get("uid", ""),
        run_digest=annotations.get(SPEC_DIGEST_ANNOTATION, ""),
        attempt_digest=annotations.get(ATTEMPT_DIGEST_ANNOTATION, ""),
    )


def _ownership(meta: Document, job: ObservedJob) -> Ownership:
    owner = _owner(meta)
    if owner.get("uid") != job.uid:
        same_name = owner.get("kind") == "LoRAJob" and owner.get("name") == job.name
        return Ownership.LEFTOVER if same_name else Ownership.FOREIGN
    return Ownership.GOING if "deletionTimestamp" in meta else Ownership.OURS


def _owner(meta: Document) -> Document:
    """Return the controller, or what stands for it on a clean-up Job, which must not go with its owner."""
    annotations, labels = meta.get("annotations") or {}, meta.get("labels") or {}
    if JOB_UID_ANNOTATION in annotations:
        return {"kind": "LoRAJob", "name": labels.get(JOB_LABEL), "uid": annotations[JOB_UID_ANNOTATION]}
    return _controller(meta)


def _controller(meta: Document) -> Document:
    return next((each for each in meta.get("ownerReferences") or [] if each.get("controller")), {})


def read_work(document: Document, job: ObservedJob, pods: Iterable[Document]) -> WorkView:
    """Read a Job and those of the pods that it controls."""
    meta, status, spec = document["metadata"], document.get("status") or {}, document.get("spec") or {}
    conditions = _conditions(status)
    failed = conditions.get("Failed", {})
    own = [read_pod(pod) for pod in pods if _controller(pod["metadata"]).get("uid") == meta["uid"]]
    return WorkView(
        child=read_child(document, job),
        wanted=spec.get("parallelism", 1),
        suspended=spec.get("suspend") is True,
        queue=(meta.get("labels") or {}).get(QUEUE_LABEL, ""),
        complete="Complete" in conditions,
        failed="Failed" in conditions,
        failed_reason=failed.get("reason", ""),
        failed_message=failed.get("message", ""),
        failures=status.get("failed", 0),
        retries=spec.get("backoffLimit", 0),
        pods=tuple(sorted(own, key=lambda pod: (pod.created, pod.name))),
    )


def _conditions(status: Document) -> dict[str, Document]:
    """Return the conditions that are True, by type."""
    return {each["type"]: each for each in status.get("conditions") or [] if each.get("status") == "True"}


def read_pod(document: Document) -> PodView:
    """Read a pod of the trainer."""
    meta, status = document["metadata"], document.get("status") or {}
    state = _trainer_state(status)
    waiting = state.get("waiting") or {}
    disruption = _conditions(status).get("DisruptionTarget")
    phase = status.get("phase", "Pending")
    return PodView(
        name=meta["name"],
        uid=meta.get("uid", ""),
        created=meta.get("creationTimestamp") or "",
        phase=phase,
        node=(document.get("spec") or {}).get("nodeName") or "",
        ip=status.get("podIP") or "",
        unschedulable=_unschedulable(status),
        waiting_reason=waiting.get("reason") or "",
        waiting_message=waiting.get("message") or "",
        running="running" in state and phase == "Running",
        started=(state.get("running") or {}).get("startedAt") or "",
        end=_read_end(state.get("terminated")),
        lost_reason=(status.get("reason") or "") if phase == "Failed" else "",
        lost_message=(status.get("message") or "") if phase == "Failed" else "",
        disrupted=disruption is not None,
        disruption_reason=(disruption or {}).get("reason") or "",
        disruption_message=(disruption or {}).get("message") or "",
        memory_limit=_memory_limit(document.get("spec") or {}),
        index=_index(meta),
    )


def _memory_limit(spec: Document) -> str:
    trainer: Document = next(
        (each for each in spec.get("containers") or [] if each.get("name") == TRAINER_CONTAINER), {}
    )
    return str(((trainer.get("resources") or {}).get("limits") or {}).get("memory") or "")


def _index(meta: Document) -> int:
    text = (meta.get("annotations") or {}).get("batch.kubernetes.io/job-completion-index", "")
    return int(text) if text.isdecimal() else 0


def _trainer_state(status: Document) -> Document:
    containers = status.get("containerStatuses") or []
    trainer: Document = next((each for each in containers if each.get("name") == TRAINER_CONTAINER), {})
    return trainer.get("state") or {}


def _read_end(terminated: Document | None) -> ContainerEnd | None:
    if not terminated:
        return None
    return ContainerEnd(
        exit_code=terminated.get("exitCode", 0),
        reason=terminated.get("reason") or "",
        message=terminated.get("message") or "",
    )


def _unschedulable(status: Document) -> str:
    for each in status.get("conditions") or []:
        if each.get("type") == "PodScheduled" and each.get("status") == "False":
            return each.get("message") or each.get("reason") or "no node fits"
    return ""


def read_workload(workloads: Iterable[Document]) -> WorkloadView | None:
    """Read what Kueue says about a Job: of the newest Workload the newest word on why it may not start."""
    newest = max(workloads, key=lambda each: each["metadata"].get("creationTimestamp") or "", default=None)
    if newest is None:
        return None
    said = (newest.get("status") or {}).get("conditions") or []
    evicted = next((each for each in said if (each.get("type"), each.get("status")) == ("Evicted", "True")), None)
    waits = next((each for each in said if (each.get("type"), each.get("status")) == ("QuotaReserved", "False")), None)
    shown = evicted or waits or {}
    return WorkloadView(shown.get("reason") or "", shown.get("message") or "", evicted is not None)


def read_adapter_view(document: Document) -> AdapterView:
    """Read the LoRAAdapter at the name that a job would use."""
    meta, source = document["metadata"], (document.get("spec") or {}).get("source") or {}
    return AdapterView(
        name=meta["name"],
        uid=meta.get("uid", ""),
        job_label=(meta.get("labels") or {}).get(JOB_LABEL, ""),
        uri=source.get("uri", ""),
        digest=source.get("digest", ""),
    )


def read_adapter(document: Document) -> ObservedAdapter:
    """Read a LoRAAdapter for its own reconciler."""
    meta = document["metadata"]
    spec, fault = _read_spec(LoRAAdapterSpec, document.get("spec") or {})
    return ObservedAdapter(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        generation=meta.get("generation", 1),
        spec=spec,
        fault=fault,
        status=LoRAAdapterStatus.model_validate(document.get("status") or {}),
        finalizers=tuple(meta.get("finalizers") or ()),
        version=meta.get("resourceVersion", ""),
        deleting_since=_time(meta.get("deletionTimestamp")),
    )
