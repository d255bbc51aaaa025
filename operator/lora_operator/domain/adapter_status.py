"""The status of a LoRAAdapter: conditions from where the rollout stands and from what the pods say. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lora_api.artifacts import short_digest
from lora_api.conditions import Condition, ConditionStatus, set_condition, whole_seconds
from lora_api.delivery import AdapterState
from lora_api.loraadapter import (
    MAX_PODS_IN_STATUS,
    AdapterVersion,
    LoRAAdapterSpec,
    LoRAAdapterStatus,
    RolloutStage,
    RolloutStatus,
    VersionState,
)
from lora_api.messages import Servability
from lora_api.reasons import ConditionType, Reason
from lora_operator.domain.adapter_pods import ServingPod, known_reason, pod_states
from lora_operator.domain.adapter_versions import Version, record

_MESSAGE_LIMIT = 2048


@dataclass(frozen=True, slots=True)
class Verdict:
    """Status, reason and message of one condition."""

    status: ConditionStatus
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Situation:
    """What the status is made from."""

    spec: LoRAAdapterSpec
    generation: int
    before: LoRAAdapterStatus
    wanted: Version
    served: Version | None
    rollout: RolloutStatus | None
    pods: Sequence[ServingPod]
    """All that ask for the adapter, also such as have no agent."""
    now: datetime

    @property
    def live(self) -> list[ServingPod]:
        """Pods that can serve."""
        return [each for each in self.pods if each.live]

    @property
    def serving(self) -> int:
        """Pods that serve the wanted version."""
        return sum(each.has(self.wanted.digest) for each in self.pods)

    @property
    def failed(self) -> bool:
        """Whether the wanted version was given up."""
        return self.rollout is not None and self.rollout.stage == RolloutStage.FAILED

    @property
    def stage(self) -> RolloutStage | None:
        """How far the rollout is; None without one."""
        return self.rollout.stage if self.rollout else None

    @property
    def finished(self) -> bool:
        """Whether the wanted version went to all pods."""
        return self.served is not None and self.served.digest == self.wanted.digest


def adapter_status(at: Situation) -> LoRAAdapterStatus:
    """Return the status for a situation."""
    versions = _versions(at)
    conditions = list(at.before.conditions)
    verdicts = {
        ConditionType.COMPATIBLE: _compatible(at),
        ConditionType.LOADED: _loaded(at),
        ConditionType.PROGRESSING: _progressing(at),
        ConditionType.DEGRADED: _degraded(at, versions),
        ConditionType.READY: _ready(at),
    }
    for kind, verdict in verdicts.items():
        conditions = list(set_condition(conditions, _condition(kind, verdict, at)))
    asking = sum(not each.pod.deleting and not each.pod.ended for each in at.pods)
    previous = next((each.digest for each in versions if each.digest != at.wanted.digest and _was_served(each)), None)
    return at.before.model_copy(
        update={
            "observed_generation": at.generation,
            "conditions": conditions,
            "digest": at.wanted.digest or None,
            "digest_short": short_digest(at.wanted.digest) or None,
            "previous_digest": previous,
            "served_pods": f"{at.serving}/{asking}",
            "desired_pods": asking,
            "ready_pods": at.serving,
            "rollout": at.rollout,
            "versions": versions,
            "compatibility": _compatibility(at),
            "pods": pod_states(at.pods, MAX_PODS_IN_STATUS),
        }
    )


def _condition(kind: ConditionType, verdict: Verdict, at: Situation) -> Condition:
    text = verdict.message
    return Condition(
        type=kind,
        status=verdict.status,
        observed_generation=at.generation,
        last_transition_time=whole_seconds(at.now),
        reason=verdict.reason,
        message=text if len(text) <= _MESSAGE_LIMIT else text[: _MESSAGE_LIMIT - 1] + "…",
    )


def _was_served(version: AdapterVersion) -> bool:
    return version.state != VersionState.REJECTED


def _versions(at: Situation) -> list[AdapterVersion]:
    """Return the history with what has just become of the wanted version."""
    before, limit = list(at.before.versions), at.spec.versions.history_limit
    if not at.wanted.digest:
        return before
    if at.stage == RolloutStage.DONE or at.finished:
        return record(before, at.wanted, VersionState.SERVING, at.now, limit=limit)
    if at.failed and at.before.rollout != at.rollout:
        reason, message = _refusal(at)
        return record(before, at.wanted, VersionState.REJECTED, at.now, limit=limit, reason=reason, message=message)
    return before


def _refusal(at: Situation) -> tuple[str, str]:
    """Return why the pod gave the version up."""
    name = at.rollout.canary if at.rollout else ""
    for each in at.pods:
        if each.pod.name == name and (said := each.refuses):
            notes = "".join(f"; {text}" for _, text in each.pod.notes)
            return said.reason or Reason.ENGINE_REFUSED, f"pod {name}: {said.message}{notes}"
    return Reason.ENGINE_REFUSED, f"pod {name} gave it up"


def _degraded(at: Situation, versions: Sequence[AdapterVersion]) -> Verdict:
    if at.failed:
        rejected = next((each for each in versions if each.digest == at.wanted.digest), None)
        reason, message = (rejected.reason, rejected.message) if rejected else _kept_words(at)
        return Verdict("True", known_reason(reason), f"{at.wanted.short} is not served: {message}; {_instead(at)}")
    if at.rollout and at.stage in (RolloutStage.CANARY, RolloutStage.ROLLING) and _overdue(at, at.rollout):
        waits = "; ".join(_waiting(at)) or "no pod says why"
        seconds = at.spec.rollout.timeout_seconds
        return Verdict("True", Reason.ROLLOUT_TIMEOUT, f"no progress for {seconds} s: {waits}; {_instead(at)}")
    for trouble in _pod_troubles(at):
        return trouble
    return Verdict("False", Reason.SERVED if at.pods else Reason.NO_PODS, "")


def _kept_words(at: Situation) -> tuple[str, str]:
    """Return the words of the last pass, for a version whose digest nobody knows."""
    if at.before.rollout != at.rollout:
        return _refusal(at)
    said = next((each for each in at.before.conditions if each.type == ConditionType.DEGRADED), None)
    start = f"{at.wanted.short} is not served: "
    message = said.message.removeprefix(start).removesuffix(f"; {_instead(at)}") if said else ""
    return (said.reason if said else Reason.ENGINE_REFUSED), message


def _instead(at: Situation) -> str:
    return f"{at.served.short} is still served" if at.served else "no version was served before"


def _overdue(at: Situation, rollout: RolloutStatus) -> bool:
    return at.now - rollout.progress_time > timedelta(seconds=at.spec.rollout.timeout_seconds)


def _waiting(at: Situation) -> Iterator[str]:
    for each in at.live:
        if each.told is not None and not each.has(at.wanted.digest) and each.said and each.said.message:
            yield f"pod {each.pod.name}: {each.said.message}"


def _pod_troubles(at: Situation) -> Iterator[Verdict]:
    """Yield what is wrong with single pods, the worst first."""
    for each in at.live:
        if each.refuses and at.stage not in (RolloutStage.CANARY, RolloutStage.ROLLING):
            yield Verdict("True", known_reason(each.refuses.reason), f"pod {each.pod.name}: {each.refuses.message}")
    if bare := [each.pod.name for each in at.pods if not each.pod.injected and not each.pod.ended]:
        message = f"without agent: {', '.join(bare[:5])}; they were made without the webhook, restart them"
        yield Verdict("True", Reason.NOT_INJECTED, message)
    if silent := [each.pod.name for each in at.live if each.pod.running and not each.reachable]:
        yield Verdict("True", Reason.POD_UNREACHABLE, f"no answer from the agent in: {', '.join(silent[:5])}")


def _ready(at: Situation) -> Verdict:
    running = [each for each in at.live if each.pod.running]
    if not at.live:
        return Verdict("Unknown", Reason.NO_PODS, "No pod asks for the adapter")
    if at.failed:
        return Verdict("False", Reason.ROLLED_BACK, f"{at.wanted.short} was given up; {_instead(at)}")
    if at.finished and running and all(each.has(at.wanted.digest) for each in running):
        pinned = at.spec.versions.pin is not None
        return Verdict(
            "True",
            Reason.PINNED if pinned else Reason.SERVED,
            f"{at.wanted.short} is served by {at.serving} of {len(at.live)} pods" + (", pinned" if pinned else ""),
        )
    return Verdict("False", Reason.LOADING, f"{at.wanted.short} is served by {at.serving} of {len(at.live)} pods")


def _loaded(at: Situation) -> Verdict:
    running = [each for each in at.live if each.pod.running]
    if not running:
        return Verdict("Unknown", Reason.NO_PODS, "No pod that runs asks for the adapter")
    if missing := [each.pod.name for each in running if not each.served_digest and not each.has(at.wanted.digest)]:
        return Verdict("False", Reason.LOADING, f"no version is served by: {', '.join(missing[:5])}")
    return Verdict("True", Reason.SERVED, "Every running pod serves a version of the adapter")


def _progressing(at: Situation) -> Verdict:
    count = f"{at.serving} of {len(at.live)} pods serve it"
    if at.failed:
        return Verdict("False", Reason.ROLLED_BACK, f"{at.wanted.short} was given up; {_instead(at)}")
    if at.stage == RolloutStage.CANARY and at.rollout:
        waits = next(_waiting(at), "")
        text = f"{at.wanted.short} is tried in pod {at.rollout.canary}"
        return Verdict("True", Reason.CANARY, f"{text}: {waits}" if waits else text)
    if at.stage == RolloutStage.ROLLING:
        return Verdict("True", Reason.ROLLING_OUT, f"{at.wanted.short}: {count}")
    if not at.live:
        return Verdict("False", Reason.NO_PODS, "No pod asks for the adapter")
    return Verdict("False", Reason.ROLLED_OUT, f"{at.wanted.short} went to all pods")


def _compatible(at: Situation) -> Verdict:
    for each in at.live:
        if (said := each.refuses) and said.reason == Reason.INCOMPATIBLE:
            return Verdict("False", Reason.INCOMPATIBLE, f"pod {each.pod.name}: {said.message}")
    for version in _versions(at):
        if at.failed and version.digest == at.wanted.digest and version.reason == Reason.INCOMPATIBLE:
            return Verdict("False", Reason.INCOMPATIBLE, version.message)
    checked = [each for each in at.live if each.said and each.said.compatibility]
    if not checked:
        return Verdict("Unknown", Reason.NOT_KNOWN_YET, "No pod has looked at the adapter yet")
    return Verdict("True", Reason.COMPATIBLE, f"Checked in {len(checked)} of {len(at.live)} pods")


def _compatibility(at: Situation) -> list[Servability]:
    """Return one verdict an engine. A pod is heard about its own engine alone; of several the worst counts."""
    found: dict[str, Servability] = {}
    for each in at.live:
        verdicts = each.said.compatibility if each.said and each.said.state != AdapterState.PENDING else []
        for verdict in verdicts:
            if verdict.engine == each.engine and (verdict.engine not in found or not verdict.servable):
                found[verdict.engine] = verdict
    return [found[engine] for engine in sorted(found)] or list(at.before.compatibility)
