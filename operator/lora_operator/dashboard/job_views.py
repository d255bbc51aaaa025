"""A LoRAJob as the page shows it: one row of the list, and all of the job page. Pure.

What is not named here is not shown. An object that this version cannot read is shown by its name, never left out: a job
that vanishes from a list is worse than one without numbers.
"""

from typing import Any, Final

from pydantic import ValidationError

from lora_api.conditions import Condition
from lora_api.lorajob_status import LoRAJobStatus, Phase
from lora_operator.dashboard.masking import mask_spec, mask_url

Document = dict[str, Any]

UNREADABLE: Final = "This version of the dashboard cannot read the status of this object."


def job_row(document: Document) -> Document:
    """Return one row of the list."""
    status = _read_status(document)
    meta, spec = document["metadata"], document.get("spec") or {}
    row: Document = {
        "namespace": meta.get("namespace") or "",
        "name": meta["name"],
        "created": meta.get("creationTimestamp"),
        "base": mask_url(str((spec.get("baseModel") or {}).get("uri") or "")),
        "task": spec.get("task") or "CausalLM",
    }
    if status is None:
        return row | {"phase": "Unknown", "reason": "", "message": UNREADABLE}
    phase = status.phase or Phase.PENDING
    digest = status.adapter_digest_short or ""
    said = {"phase": phase.value, "reason": status.reason or "", "run": status.run, "digest": digest}
    return row | said | {"message": _explain(status)["message"]} | _progress(status)


def job_detail(document: Document) -> Document:
    """Return all that the page of a job shows."""
    status = _read_status(document)
    row = job_row(document)
    shown = row | {
        "suspend": bool((document.get("spec") or {}).get("suspend")),
        "deleting": bool(document["metadata"].get("deletionTimestamp")),
        "spec": mask_spec(document.get("spec") or {}),
    }
    if status is None:
        return shown | {"explanation": {"reason": "", "message": UNREADABLE, "hint": ""}}
    wire = status.wire()
    kept = ("startTime", "completionTime", "attempts", "resolved", "progress", "checkpoint", "adapter", "restart")
    return (
        shown
        | {name: wire[name] for name in kept if name in wire}
        | {
            "explanation": _explain(status),
            "outdated": (status.observed_generation or 0) < int(document["metadata"].get("generation") or 0),
            "conditions": wire.get("conditions", []),
            "curve": wire.get("lossCurve", []),
            "history": wire.get("history", []),
            "adapterName": _adapter_name(document, status),
        }
    )


def _progress(status: LoRAJobStatus) -> Document:
    """Return the numbers of a row."""
    if status.progress is None:
        return {}
    wire = status.progress.wire()
    names = ("step", "totalSteps", "percent", "loss", "evalLoss", "etaTime", "activity", "overfitting")
    return {name: wire[name] for name in names if name in wire}


def _explain(status: LoRAJobStatus) -> Document:
    """Return why the job is in its state, in words of the operator, and what to change if it cannot go on."""
    if status.failure is not None:
        return {"reason": status.failure.reason, "exitCode": status.failure.exit_code} | {
            "message": status.failure.message,
            "hint": status.failure.hint,
        }
    speaking = _condition_of_phase(status)
    reason = status.reason or (speaking.reason if speaking else "")
    message = speaking.message if speaking else "The operator has not looked at this job yet."
    return {"reason": reason, "message": message, "hint": ""}


def _condition_of_phase(status: LoRAJobStatus) -> Condition | None:
    """Return the condition that the summary comes from: of those with its reason, the newest."""
    named = [each for each in status.conditions if each.reason == status.reason] or status.conditions
    return max(named, key=lambda each: each.last_transition_time, default=None)


def _adapter_name(document: Document, status: LoRAJobStatus) -> str | None:
    """Return the name of the LoRAAdapter that a successful job has made; None if it was to make none."""
    template = (document.get("spec") or {}).get("adapter") or {}
    if status.phase is not Phase.SUCCEEDED or template.get("create") is False:
        return None
    return str(template.get("name") or document["metadata"]["name"])


def _read_status(document: Document) -> LoRAJobStatus | None:
    try:
        return LoRAJobStatus.model_validate(document.get("status") or {})
    except ValidationError:
        return None
