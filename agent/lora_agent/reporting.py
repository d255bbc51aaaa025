"""What the agent says of itself: pure views of slots and engine, as the operator and readiness see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from lora_agent.decide import STAGING_PREFIX, Action, Wait
from lora_agent.faults import Fault
from lora_agent.gate import Standing
from lora_agent.memory import Loaded
from lora_agent.slot import Slot
from lora_agent.transfer.protocol import StoreRecord
from lora_api.delivery import AdapterState, AgentAdapter
from lora_api.reasons import Reason

_MESSAGE_CHARACTERS = 1024
_FOR_PEOPLE = {Reason.INPUT_NOT_FOUND, Reason.NO_PERMISSION, Reason.SECRET_NOT_FOUND, Reason.INVALID_SPEC}
"""What time alone does not mend. It is tried again, and a new pod does not wait for it."""


class Activity(StrEnum):
    """What is being done for an adapter at this moment."""

    DOWNLOADING = "Downloading"
    CHECKING = "Checking"
    LOADING = "Loading"


_STATES = {
    Activity.DOWNLOADING: AdapterState.DOWNLOADING,
    Activity.CHECKING: AdapterState.ON_DISK,
    Activity.LOADING: AdapterState.LOADING,
}


@dataclass(frozen=True, slots=True)
class Leaving:
    """A name that is being unloaded, and what went wrong with that so far."""

    fault: Fault | None = None
    failures: int = 0
    retry_at: float = 0.0


def report_of(
    slot: Slot,
    action: Action,
    activity: Activity | None,
    shown: Mapping[str, str],
    store: Mapping[str, StoreRecord],
) -> AgentAdapter:
    """Return what is said of one desired adapter. `shown` is what the engine shows, see `Engine.shown_lately`."""
    served = "" if _lost_its_name(slot, action) else shown.get(slot.wanted.served_name, "")
    state = _state(slot, action, activity, served, store)
    fault = action.fault if isinstance(action, Wait) and activity is None else slot.fault
    if state is AdapterState.SERVED:
        fault = slot.fault
    return AgentAdapter(
        name=slot.wanted.name,
        served_name=slot.wanted.served_name,
        state=state,
        digest=slot.target,
        served_digest=served,
        reason=fault.reason if fault else "",
        message=_cut(fault.message) if fault else "",
        permanent=bool(fault and fault.permanent),
        downloaded_bytes=slot.done_bytes,
        total_bytes=slot.total_bytes,
        load_seconds=slot.load_seconds,
        probe=slot.probe,
        compatibility=list(slot.compatibility)[:16],
    )


def leaving_report(name: str, loaded: Loaded | None, shown: Mapping[str, str], leaving: Leaving) -> AgentAdapter | None:
    """Return what is said of a name that goes; nothing of the agent's own names."""
    if name.startswith(STAGING_PREFIX):
        return None
    served = shown.get(name, "")
    return AgentAdapter(
        name=(loaded.adapter if loaded else "") or name,
        served_name=name,
        state=AdapterState.UNLOADING,
        digest=served or (loaded.digest if loaded else ""),
        served_digest=served,
        reason=leaving.fault.reason if leaving.fault else "",
        message=_cut(leaving.fault.message) if leaving.fault else "",
    )


def standing_of(
    report: AgentAdapter, store: Mapping[str, StoreRecord], loaded: Mapping[str, Loaded], *, offline: bool
) -> Standing:
    """Return how far an adapter is, as the pod's start and readiness see it.

    For an engine that reads a folder it is on disk when it is in that folder, too.
    """
    served = bool(report.served_digest)
    remembered = loaded.get(report.served_name)
    in_place = not offline or (remembered is not None and remembered.digest == report.digest)
    hopeless = (report.permanent or report.reason in _FOR_PEOPLE) and not served
    return Standing(report.digest in store and in_place, served, hopeless=hopeless)


def _lost_its_name(slot: Slot, action: Action) -> bool:
    """Return whether what is served under the name is somebody else's."""
    fault = action.fault if isinstance(action, Wait) else None
    return fault is not None and fault.reason is Reason.NAME_CONFLICT and fault is not slot.fault


def _state(
    slot: Slot,
    action: Action,
    activity: Activity | None,
    served: str,
    store: Mapping[str, StoreRecord],
) -> AdapterState:
    if served and served == slot.target:
        return AdapterState.SERVED
    if activity is not None:
        return _STATES[activity]
    if isinstance(action, Wait):
        return action.state
    return AdapterState.ON_DISK if slot.target in store else AdapterState.PENDING


def _cut(text: str) -> str:
    return text if len(text) <= _MESSAGE_CHARACTERS else text[: _MESSAGE_CHARACTERS - 1] + "…"


def summary(report: AgentAdapter) -> dict[str, str]:
    """Return what the log says of one adapter."""
    return {
        "name": report.name,
        "served_name": report.served_name,
        "state": report.state,
        "digest": report.digest,
        "served_digest": report.served_digest,
        "reason": report.reason,
        "message": report.message,
    }
