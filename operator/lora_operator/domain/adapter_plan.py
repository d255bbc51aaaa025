"""What to do about one LoRAAdapter: the whole decision of one pass, as one pure function.

It says which pod is told what, and what the status says. It writes nothing itself, keeps nothing, and asks for no write
when nothing has changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from lora_api.conditions import Condition, find_condition, is_true, set_condition, whole_seconds
from lora_api.delivery import DesiredAdapter
from lora_api.loraadapter import LoRAAdapterSpec, LoRAAdapterStatus, RolloutStage, RolloutStatus
from lora_api.reasons import ConditionType, Reason
from lora_operator.domain.adapter_pods import ServingPod, pod_states
from lora_operator.domain.adapter_status import Situation, adapter_status
from lora_operator.domain.adapter_versions import PinNotFoundError, Version, entry_of, served_version, wanted_version
from lora_operator.domain.events import Event
from lora_operator.domain.inference import InferencePod
from lora_operator.domain.observed import ObservedAdapter
from lora_operator.domain.rollout import roll

_ROLLING_SECONDS = 5.0
"""Until a rollout is looked at again that no pod speaks of: for its timeout, and for what could not be written."""
_SILENT_SECONDS = 15.0
UNLOAD_SECONDS = 60.0
"""Time that the pods of a deleted LoRAAdapter have to unload it; the ones that cannot be reached are named then."""


class Standing(StrEnum):
    """A LoRAAdapter in one word."""

    READY = "Ready"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    NO_PODS = "NoPods"


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one pod is told of the adapter; None takes it away."""

    pod: InferencePod
    entry: DesiredAdapter | None


@dataclass(frozen=True, slots=True)
class AdapterPlan:
    """Writes of one pass, in the order in which they are done."""

    guard: bool | None = None
    """True puts our finalizer on the LoRAAdapter, before all else. False takes it off, after all else."""
    assign: tuple[Assignment, ...] = ()
    status: LoRAAdapterStatus | None = None
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    """Pods by state, for the metrics."""
    standing: Standing = Standing.PROGRESSING
    """The whole in one word, for the metrics."""
    rollout: tuple[RolloutStage, float] | None = None
    """End of a rollout in this pass, and the seconds that it took."""


def plan_adapter(adapter: ObservedAdapter, pods: Sequence[ServingPod], now: datetime) -> AdapterPlan:
    """Return what this pass has to write. `pods` ask for the adapter, or still have it."""
    if adapter.deleting_since is not None:
        return _unload(adapter, pods, now)
    if adapter.spec is None:
        return _stalled(adapter, Reason.INVALID_SPEC, adapter.fault, now)
    asking = [each for each in pods if adapter.name in each.pod.adapters]
    served = served_version(adapter.status)
    try:
        wanted = wanted_version(adapter.spec, adapter.status, adapter.generation)
    except PinNotFoundError as error:
        return _stalled(adapter, Reason.PIN_NOT_FOUND, str(error), now)
    return _deliver(adapter, adapter.spec, pods, asking, wanted, served, now)


def _deliver(
    adapter: ObservedAdapter,
    spec: LoRAAdapterSpec,
    pods: Sequence[ServingPod],
    asking: Sequence[ServingPod],
    wanted: Version,
    served: Version | None,
    now: datetime,
) -> AdapterPlan:
    live = [each for each in asking if each.live]
    move = roll(adapter.status.rollout, wanted, served, live, spec.rollout, adapter.generation, whole_seconds(now))
    entries = _entries(adapter.name, spec, move.wanted, served, live, move.moved)
    assign = tuple(_assignments(pods, entries))
    situation = Situation(
        spec=spec,
        generation=adapter.generation,
        before=adapter.status,
        wanted=move.wanted,
        served=move.wanted if move.rollout and move.rollout.stage == RolloutStage.DONE else served,
        rollout=move.rollout,
        pods=asking,
        now=whole_seconds(now),
    )
    status = adapter_status(situation)
    return AdapterPlan(
        guard=True if any(entries.values()) and not adapter.guarded else None,
        assign=assign,
        status=status if status != adapter.status else None,
        events=tuple(_transitions(adapter.status, status)),
        requeue_after=_ROLLING_SECONDS if assign else _pause(situation),
        counts=_counts(asking),
        standing=_standing(status),
        rollout=_ended(adapter.status.rollout, move.rollout, now),
    )


def _entries(
    name: str,
    spec: LoRAAdapterSpec,
    wanted: Version,
    served: Version | None,
    live: Sequence[ServingPod],
    moved: frozenset[str],
) -> dict[str, DesiredAdapter | None]:
    """Return what each live pod is told, by its uid."""
    new = entry_of(name, spec, wanted)
    old = entry_of(name, spec, served) if served else None
    return {each.pod.uid: new if each.pod.uid in moved else old for each in live}


def _assignments(pods: Sequence[ServingPod], entries: Mapping[str, DesiredAdapter | None]) -> Iterator[Assignment]:
    """Yield what differs from what the pods were told. A pod that does not ask any more is told to let go."""
    for each in pods:
        entry = entries.get(each.pod.uid)
        if entry != each.told and not each.pod.ended and each.pod.injected:
            yield Assignment(each.pod, entry)


def _pause(at: Situation) -> float | None:
    if at.live and at.stage in (RolloutStage.CANARY, RolloutStage.ROLLING):
        return _ROLLING_SECONDS
    return _SILENT_SECONDS if any(each.silent for each in at.live) else None


def _standing(status: LoRAAdapterStatus) -> Standing:
    ready = find_condition(status.conditions, ConditionType.READY)
    if is_true(status.conditions, ConditionType.DEGRADED):
        return Standing.DEGRADED
    if ready and ready.status == "True":
        return Standing.READY
    return Standing.NO_PODS if ready and ready.reason == Reason.NO_PODS else Standing.PROGRESSING


def _ended(
    before: RolloutStatus | None, after: RolloutStatus | None, now: datetime
) -> tuple[RolloutStage, float] | None:
    ends = (RolloutStage.DONE, RolloutStage.FAILED)
    if after is None or after.stage not in ends or (before and before.stage in ends and before.digest == after.digest):
        return None
    return after.stage, (now - after.started_time).total_seconds()


def _counts(pods: Sequence[ServingPod]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for each in pod_states(pods, len(pods)):
        counts[each.state] = counts.get(each.state, 0) + 1
    return counts


def _stalled(adapter: ObservedAdapter, reason: Reason, message: str, now: datetime) -> AdapterPlan:
    """Return the plan of a spec that cannot be followed: what is served stays as it is."""
    conditions = adapter.status.conditions
    for kind, status in ((ConditionType.DEGRADED, "True"), (ConditionType.READY, "False")):
        new = Condition(
            type=kind,
            status="True" if status == "True" else "False",
            observed_generation=adapter.generation,
            last_transition_time=whole_seconds(now),
            reason=reason,
            message=message[:2048],
        )
        conditions = list(set_condition(conditions, new))
    update = {"observed_generation": adapter.generation, "conditions": conditions}
    status_after = adapter.status.model_copy(update=update)
    if status_after == adapter.status:
        return AdapterPlan(standing=Standing.DEGRADED)
    events = tuple(_transitions(adapter.status, status_after))
    return AdapterPlan(status=status_after, events=events, standing=Standing.DEGRADED)


def _unload(adapter: ObservedAdapter, pods: Sequence[ServingPod], now: datetime) -> AdapterPlan:
    """Return the plan of a LoRAAdapter that is being deleted: the pods let go of it, then it goes."""
    if not adapter.guarded or adapter.deleting_since is None:
        return AdapterPlan()
    assign = tuple(Assignment(each.pod, None) for each in pods if each.told is not None and not each.pod.ended)
    holding = [each for each in pods if each.live and _holds(each)]
    waited = now - adapter.deleting_since
    if holding and waited < timedelta(seconds=UNLOAD_SECONDS):
        return AdapterPlan(assign=assign, requeue_after=2.0)
    return AdapterPlan(guard=False, assign=assign, events=(_farewell(holding, len(pods)),))


def _holds(each: ServingPod) -> bool:
    """Return whether a pod may still serve the adapter: it was not told yet, has not heard, or is at it."""
    if each.told is not None:
        return True
    return each.pod.running and each.pod.desired_text is not None and (not each.caught_up or each.said is not None)


def _farewell(holding: Sequence[ServingPod], count: int) -> Event:
    if not holding:
        return Event("Normal", Reason.UNLOADED, f"{count} pods have unloaded the adapter" if count else "No pod had it")
    names = ", ".join(each.pod.name for each in holding[:20])
    message = f"not confirmed in {UNLOAD_SECONDS:.0f} s by: {names}; they unload it when they can be reached again"
    return Event("Warning", Reason.POD_UNREACHABLE, message)


def _transitions(before: LoRAAdapterStatus, after: LoRAAdapterStatus) -> Iterator[Event]:
    """Yield an event for each turn that a person would want to hear of."""
    told = (ConditionType.PROGRESSING, ConditionType.DEGRADED)
    for condition in after.conditions:
        if condition.type not in told or condition.reason == Reason.NO_PODS:
            continue
        last = find_condition(before.conditions, condition.type)
        if last and (last.status, last.reason) == (condition.status, condition.reason):
            continue
        if condition.type == ConditionType.DEGRADED and condition.status == "True":
            yield Event("Warning", condition.reason, condition.message, after.digest or "")
        if condition.type == ConditionType.PROGRESSING:
            salt = after.digest or ""
            if condition.reason == Reason.ROLLED_BACK:
                yield Event("Warning", condition.reason, condition.message, salt)
            else:
                yield Event("Normal", condition.reason, condition.message, salt)
