"""A LoRAAdapter as the page shows it: one row of the list, and all of the adapter page. Pure.

What is not named here is not shown; what this version cannot read is shown by its name, as with jobs.
"""

from typing import Any

from pydantic import ValidationError

from lora_api.conditions import find_condition, is_true
from lora_api.loraadapter import AdapterVersion, LoRAAdapterStatus
from lora_api.names import JOB_LABEL
from lora_api.reasons import ConditionType
from lora_operator.dashboard.job_views import UNREADABLE
from lora_operator.dashboard.masking import mask_spec, mask_url

Document = dict[str, Any]


def adapter_row(document: Document) -> Document:
    """Return one row of the list."""
    status = _read_status(document)
    meta, spec = document["metadata"], document.get("spec") or {}
    row: Document = {
        "namespace": meta.get("namespace") or "",
        "name": meta["name"],
        "created": meta.get("creationTimestamp"),
        "servedName": spec.get("servedName") or meta["name"],
        "base": mask_url(str((spec.get("baseModel") or {}).get("name") or "")),
        "job": (meta.get("labels") or {}).get(JOB_LABEL),
    }
    if status is None:
        return row | {"phase": "Unknown", "reason": "", "message": UNREADABLE}
    return (
        row
        | _summary(status)
        | {
            "digest": status.digest_short or "",
            "stage": status.rollout.stage.value if status.rollout else "",
            "readyPods": status.ready_pods or 0,
            "desiredPods": status.desired_pods or 0,
        }
    )


def adapter_detail(document: Document) -> Document:
    """Return all that the page of an adapter shows."""
    status = _read_status(document)
    spec = document.get("spec") or {}
    shown = adapter_row(document) | {
        "deleting": bool(document["metadata"].get("deletionTimestamp")),
        "source": mask_url(str((spec.get("source") or {}).get("uri") or "")),
        "spec": mask_spec(spec),
    }
    if status is None:
        return shown
    wire = status.wire()
    return shown | {
        "fullDigest": status.digest,
        "previousDigest": status.previous_digest,
        "rollout": wire.get("rollout"),
        "conditions": wire.get("conditions", []),
        "versions": [_version(each) for each in status.versions],
        "compatibility": wire.get("compatibility", []),
        "pods": wire.get("pods", []),
    }


def _summary(status: LoRAAdapterStatus) -> Document:
    """Return one word for the conditions, with the reason and message that it comes from."""
    conditions = status.conditions
    for kind in (ConditionType.DEGRADED, ConditionType.PROGRESSING, ConditionType.READY):
        found = find_condition(conditions, kind)
        if found is not None and is_true(conditions, kind):
            return {"phase": kind.value, "reason": found.reason, "message": found.message}
    ready = find_condition(conditions, ConditionType.READY)
    return {
        "phase": "Waiting",
        "reason": ready.reason if ready else "",
        "message": ready.message if ready else "The operator has not looked at this adapter yet.",
    }


def _version(version: AdapterVersion) -> Document:
    return {
        "digest": version.digest,
        "state": version.state.value,
        "time": version.time.isoformat(),
        "uri": mask_url(version.source.uri),
        "base": mask_url(version.base_model.name),
        "reason": version.reason,
        "message": version.message,
    }


def _read_status(document: Document) -> LoRAAdapterStatus | None:
    try:
        return LoRAAdapterStatus.model_validate(document.get("status") or {})
    except ValidationError:
        return None
