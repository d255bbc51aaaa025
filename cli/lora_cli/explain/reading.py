"""Reads the parts of Kubernetes objects that an explanation needs. Tolerant: every field may be missing."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from lora_api.base import StatusModel
from lora_api.exit_codes import PERMANENT
from lora_api.loraadapter import LoRAAdapterStatus
from lora_api.lorajob_status import LoRAJobStatus, Phase
from lora_api.messages import TerminationMessage
from lora_api.names import STAGE_LABEL, TRAINER_CONTAINER
from lora_cli.explain.snapshot import Document

_Status = TypeVar("_Status", bound=StatusModel)


def job_status(document: Document) -> LoRAJobStatus:
    """Return the status of a LoRAJob; parts that a newer operator wrote and we do not understand are left out."""
    status = document.get("status") or {}
    known = {each.value for each in Phase}
    return _tolerant(LoRAJobStatus, {key: value for key, value in status.items() if key != "phase" or value in known})


def adapter_status(document: Document) -> LoRAAdapterStatus:
    """Return the status of a LoRAAdapter, in the same way."""
    return _tolerant(LoRAAdapterStatus, document.get("status") or {})


def _tolerant(kind: type[_Status], status: Document) -> _Status:
    """Return the status without the top-level fields that are not understood."""
    try:
        return kind.model_validate(status)
    except ValidationError as error:
        wrong = {str(each["loc"][0]) for each in error.errors() if each["loc"]}
        return kind.model_validate({key: value for key, value in status.items() if key not in wrong})


def time_of(text: Any) -> datetime | None:
    """Return a time of the API."""
    try:
        return datetime.fromisoformat(str(text)) if text else None
    except ValueError:
        return None


def seconds_since(text: Any, now: datetime) -> float:
    """Return how long ago a time of the API was; 0 when it is not known."""
    time = time_of(text)
    return (now - time).total_seconds() if time else 0.0


def true_condition(document: Document, kind: str) -> Document:
    """Return a condition of any object if it is True, else an empty document."""
    found = (document.get("status") or {}).get("conditions") or []
    return next((each for each in found if each.get("type") == kind and each.get("status") == "True"), {})


@dataclass(frozen=True)
class PodFacts:
    """What is known of one pod of a trainer."""

    name: str
    phase: str
    node: str
    created: str
    unschedulable: str
    waiting_reason: str
    waiting_message: str
    running: bool
    exit_code: int | None
    end_reason: str
    end_message: str
    finished: str
    lost: str
    """Why it failed as a whole, as the kubelet or a controller says."""
    disrupted: bool
    stage: str
    """`preflight` or `train`."""

    @property
    def permanent(self) -> bool:
        """Whether it ended with a code that would come again, so that no other pod follows."""
        return self.exit_code in PERMANENT

    @property
    def words(self) -> TerminationMessage | None:
        """The trainer's last words, if they are the trainer's."""
        try:
            return TerminationMessage.model_validate_json(self.end_message) if self.end_message else None
        except ValidationError:
            return None

    @property
    def state(self) -> str:
        """What it does, in a few words."""
        if self.exit_code is not None:
            return f"ended with code {self.exit_code}" + (f" ({self.end_reason})" if self.end_reason else "")
        if self.waiting_reason:
            return f"waits: {self.waiting_reason}"
        return "waits for a node" if self.phase == "Pending" and not self.node else self.phase


def pod_facts(document: Document) -> PodFacts:
    """Return what is known of a pod of a trainer."""
    meta, status = document["metadata"], document.get("status") or {}
    containers = status.get("containerStatuses") or []
    state = next((each.get("state") or {} for each in containers if each.get("name") == TRAINER_CONTAINER), {})
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    scheduled: Document = next(
        (each for each in status.get("conditions") or [] if each.get("type") == "PodScheduled"), {}
    )
    failed = status.get("phase") == "Failed"
    return PodFacts(
        name=meta["name"],
        phase=status.get("phase") or "Pending",
        node=(document.get("spec") or {}).get("nodeName") or "",
        created=meta.get("creationTimestamp") or "",
        unschedulable=(scheduled.get("message") or "no node fits") if scheduled.get("status") == "False" else "",
        waiting_reason=waiting.get("reason") or "",
        waiting_message=waiting.get("message") or "",
        running="running" in state,
        exit_code=ended.get("exitCode") if ended else None,
        end_reason=ended.get("reason") or "",
        end_message=ended.get("message") or "",
        finished=ended.get("finishedAt") or "",
        lost=(status.get("message") or status.get("reason") or "") if failed else "",
        disrupted=bool(true_condition(document, "DisruptionTarget")),
        stage=(meta.get("labels") or {}).get(STAGE_LABEL) or "",
    )


def last_change(document: Document) -> datetime | None:
    """Return when somebody last changed the spec: the newest entry of managedFields that is not of the status."""
    entries = document["metadata"].get("managedFields") or []
    times = [time_of(each.get("time")) for each in entries if not each.get("subresource")]
    return max((each for each in times if each), default=time_of(document["metadata"].get("creationTimestamp")))


def event_line(event: Document) -> str:
    """Return an event on one line."""
    about = event.get("involvedObject") or {}
    count = f" (x{event['count']})" if (event.get("count") or 1) > 1 else ""
    message = " ".join(str(event.get("message") or "").split())
    return f"{about.get('kind', '?')}/{about.get('name', '?')}: {event.get('reason', '')}{count}: {message}"
