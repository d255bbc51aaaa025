"""How one inference pod stands to one adapter: what it was told, what its agent says, and whether that can be believed.

An agent speaks for its own pod alone. What it says about an adapter that the pod was never told to serve is not looked
at, and what it says counts only once it has read what it was told last.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from lora_api.delivery import AdapterState, AgentAdapter, AgentStatus, DesiredAdapter
from lora_api.loraadapter import PodAdapterState
from lora_api.reasons import Reason
from lora_operator.domain.inference import AgentReport, InferencePod

SILENCE_SECONDS = 45.0
"""Silence after which a pod is called unreachable: three questions at rest."""
_TROUBLE_FIRST = ("Failed", "Unreachable", "NotInjected", "Unassigned", "Pending")


@dataclass(frozen=True, slots=True)
class ServingPod:
    """One pod that asks for the adapter, or still has it."""

    pod: InferencePod
    told: DesiredAdapter | None
    said: AgentAdapter | None
    """None if the agent has not said anything of it since it was told."""
    engine: str
    reachable: bool
    caught_up: bool
    """The agent works from what it was told last."""
    silent: bool = False
    """The agent did not answer the last question; `reachable` forgives that for a while."""
    unasked: bool = False
    """The agent runs, and nobody has asked it yet: as after a start of the operator."""

    @property
    def live(self) -> bool:
        """Whether the pod can serve anything."""
        return self.pod.injected and not self.pod.deleting and not self.pod.ended

    @property
    def counts(self) -> bool:
        """Whether a rollout waits for it."""
        return self.live and self.pod.running and self.reachable

    @property
    def served_digest(self) -> str:
        """Digest that the engine serves, as far as the agent has said."""
        return self.said.served_digest if self.said else ""

    def has(self, digest: str) -> bool:
        """Return whether the pod serves a digest. An engine that reads adapters at its start has it on disk."""
        if self.said is None or not digest:
            return False
        on_disk = self.said.state == AdapterState.ON_DISK and self.engine == "static" and self.said.digest == digest
        return self.served_digest == digest or on_disk

    @property
    def refuses(self) -> AgentAdapter | None:
        """What the agent says if it has given up on what it was told."""
        said = self.said if self.caught_up else None
        return said if said and said.permanent and said.state == AdapterState.FAILED else None


def serving_pod(pod: InferencePod, report: AgentReport, name: str) -> ServingPod:
    """Return how a pod stands to the adapter of a name."""
    told, status = pod.desired.get(name), report.status
    said = next((each for each in status.adapters if each.name == name), None) if status else None
    return ServingPod(
        pod=pod,
        told=told,
        said=said,
        engine=(status.engine.kind if status else "") or pod.engine,
        reachable=report.silent_seconds is None or report.silent_seconds < SILENCE_SECONDS,
        caught_up=has_caught_up(pod, status),
        silent=report.silent_seconds is not None,
        unasked=pod.running and bool(pod.ip) and status is None and report.silent_seconds is None,
    )


def has_caught_up(pod: InferencePod, status: AgentStatus | None) -> bool:
    """Return whether an agent works from the pod's annotation as it is now."""
    if status is None or pod.desired_text is None:
        return False
    return status.desired_digest == hashlib.sha256(pod.desired_text.encode()).hexdigest()


def in_motion(pod: InferencePod, status: AgentStatus | None) -> bool:
    """Return whether a pod is about to change, so that it is worth asking often."""
    if not pod.running or pod.desired_text is None:
        return False
    if not has_caught_up(pod, status) or status is None:
        return True
    settled = {AdapterState.SERVED, AdapterState.FAILED, AdapterState.ON_DISK}
    return any(each.state not in settled or each.name not in pod.desired for each in status.adapters)


def named_in(before: InferencePod | None, after: InferencePod | None) -> frozenset[str]:
    """Return the adapters that a change of a pod matters to."""
    if before is None or after is None:
        return frozenset(each for pod in (before, after) if pod for each in (*pod.adapters, *pod.desired))
    if _bearing(before) != _bearing(after):
        return frozenset((*before.adapters, *before.desired, *after.adapters, *after.desired))
    told = {each for each in {*before.desired, *after.desired} if before.desired.get(each) != after.desired.get(each)}
    return frozenset(told | set(before.adapters) ^ set(after.adapters))


def _bearing(pod: InferencePod) -> object:
    """Return what of a pod matters to all its adapters."""
    return pod.uid, pod.ip, pod.injected, pod.running, pod.deleting, pod.ended, pod.notes


def pod_states(pods: Iterable[ServingPod], limit: int) -> list[PodAdapterState]:
    """Return the pods as the status shows them, those with trouble first."""
    states = sorted((_pod_state(each) for each in pods), key=lambda each: (_rank(each.state), each.name))
    return states[:limit]


def _rank(state: str) -> int:
    return _TROUBLE_FIRST.index(state) if state in _TROUBLE_FIRST else len(_TROUBLE_FIRST)


def _pod_state(each: ServingPod) -> PodAdapterState:
    state, reason, message = _words(each)
    return PodAdapterState(
        name=each.pod.name,
        node=each.pod.node,
        engine=each.engine,
        state=state,
        digest=each.served_digest,
        reason=reason,
        message=message,
    )


def _words(each: ServingPod) -> tuple[str, str, str]:
    """Return state, reason and message of a pod."""
    if not each.pod.injected:
        return "NotInjected", Reason.NOT_INJECTED, "the pod was made without the webhook; restart it"
    if not each.reachable:
        return "Unreachable", Reason.POD_UNREACHABLE, "no answer from its agent"
    if each.told is None:
        return "Unassigned", "", ""
    if each.said is None or not (each.caught_up or each.served_digest == each.told.digest):
        return AdapterState.PENDING, "", ""  # what it says is about what it was told before
    note = next(iter(each.pod.notes), None)
    if each.said.state == AdapterState.FAILED and note and not each.said.served_digest:
        return each.said.state, known_reason(each.said.reason), f"{each.said.message}; {note[1]}"[:1024]
    reason = known_reason(each.said.reason) if each.said.reason else ""
    return each.said.state, reason, each.said.message


def known_reason(reason: str) -> Reason:
    """Return a reason of ours: an agent may say what it likes."""
    return Reason(reason) if reason in set(Reason) else Reason.ENGINE_REFUSED
