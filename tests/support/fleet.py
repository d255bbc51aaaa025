"""A fleet of inference pods for tests of decisions: agents that do what they are told, or fail as the test says.

Each `step` makes one pass of the operator and writes what it asks for; `agents` lets every agent read and act.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lora_api.conditions import Condition, find_condition
from lora_api.delivery import AdapterState, AgentAdapter, AgentStatus, Desired, DesiredAdapter, EngineStatus
from lora_api.loraadapter import LoRAAdapterSpec, LoRAAdapterStatus
from lora_api.names import UNLOAD_FINALIZER
from lora_api.reasons import Reason
from lora_operator.domain.adapter_plan import AdapterPlan, plan_adapter
from lora_operator.domain.adapter_pods import ServingPod, serving_pod
from lora_operator.domain.inference import AgentReport, InferencePod
from lora_operator.domain.observed import ObservedAdapter

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
NAME = "support-bot"


def digest(letter: str) -> str:
    """Return a digest that is easy to tell from others."""
    return f"sha256:{letter * 64}"


A, B, C = (digest(each) for each in "abc")


def spec(wanted: str | None = A, **changes: Any) -> LoRAAdapterSpec:
    """Return a spec whose source is the folder of a digest."""
    source = {"uri": f"s3://models/{(wanted or 'plain')[-8:]}"} | ({"digest": wanted} if wanted else {})
    return LoRAAdapterSpec.model_validate({"baseModel": {"name": "owner/base"}, "source": source, **changes})


@dataclass
class Agent:
    """The agent and engine of one pod."""

    served: str = ""
    text: str | None = None
    said: AgentAdapter | None = None
    silent: float | None = None
    engine: str = "vllm"
    fault: Callable[[DesiredAdapter], tuple[Reason, bool] | None] = lambda entry: None
    found: str = C
    """Digest of a source without one."""

    def act(self, text: str | None) -> None:
        """Read what is desired, and do it at once."""
        if self.silent is not None:
            return
        self.text = text
        desired = Desired.model_validate_json(text) if text else Desired()
        entry = next((each for each in desired.adapters if each.name == NAME), None)
        if entry is None:
            self.said, self.served = None, ""
            return
        base = {"name": NAME, "served_name": entry.served_name, "digest": entry.digest or ""}
        if fault := self.fault(entry):
            reason, permanent = fault
            self.said = AgentAdapter(
                **base,
                state=AdapterState.FAILED,
                served_digest=self.served,
                reason=reason,
                message=f"because of {reason}",
                permanent=permanent,
            )
            return
        self.served = entry.digest or self.found
        self.said = AgentAdapter(
            **(base | {"digest": self.served}), state=AdapterState.SERVED, served_digest=self.served
        )

    def report(self, uid: str) -> AgentReport:
        """Return what the operator hears."""
        if self.text is None and self.said is None:
            return AgentReport(status=None, silent_seconds=self.silent)
        status = AgentStatus(
            pod_uid=uid,
            engine=EngineStatus(kind=self.engine),
            desired_digest=hashlib.sha256(self.text.encode()).hexdigest() if self.text is not None else "",
            adapters=[self.said] if self.said else [],
        )
        return AgentReport(status=status, silent_seconds=self.silent)


def pod(name: str, **changes: Any) -> InferencePod:
    """Return a running pod that asks for the adapter and was told nothing."""
    fields: dict[str, Any] = {
        "namespace": "team-a",
        "name": name,
        "uid": f"uid-{name}",
        "node": "node-1",
        "ip": "10.0.0.1",
        "adapters": (NAME,),
        "desired": {},
        "desired_text": None,
        "injected": True,
        "engine": "vllm",
        "notes": (),
        "running": True,
        "deleting": False,
        "ended": False,
        "created": "2026-11-25T11:00:00Z",
    }
    return InferencePod(**(fields | changes))


@dataclass
class Fleet:
    """One LoRAAdapter and its pods."""

    spec: LoRAAdapterSpec
    pods: dict[str, InferencePod] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    status: LoRAAdapterStatus = field(default_factory=LoRAAdapterStatus)
    generation: int = 1
    now: datetime = NOW
    guarded: bool = False
    deleting_since: datetime | None = None
    told: list[str] = field(default_factory=list)
    """Reasons of the events so far."""
    last: AdapterPlan = field(default_factory=AdapterPlan)

    @classmethod
    def of(cls, count: int, wanted: LoRAAdapterSpec | None = None, **changes: Any) -> "Fleet":
        """Return a fleet of pods named pod-0, pod-1 and so on."""
        fleet = cls(wanted or spec(), **changes)
        for index in range(count):
            fleet.add(f"pod-{index}")
        return fleet

    def add(self, name: str, **changes: Any) -> "Fleet":
        """Add a pod."""
        self.pods[name], self.agents[name] = pod(name, **changes), Agent()
        return self

    def remove(self, name: str) -> "Fleet":
        """Remove a pod."""
        del self.pods[name], self.agents[name]
        return self

    def edit(self, wanted: LoRAAdapterSpec) -> "Fleet":
        """Change the spec."""
        self.spec, self.generation = wanted, self.generation + 1
        return self

    def look(self) -> list[ServingPod]:
        """Return the pods as a pass sees them."""
        return [serving_pod(each, self.agents[name].report(each.uid), NAME) for name, each in self.pods.items()]

    def observed(self) -> ObservedAdapter:
        """Return the LoRAAdapter as a pass sees it."""
        return ObservedAdapter(
            namespace="team-a",
            name=NAME,
            uid="uid-adapter",
            generation=self.generation,
            spec=self.spec,
            status=LoRAAdapterStatus.model_validate(self.status.wire()),
            finalizers=(UNLOAD_FINALIZER,) if self.guarded else (),
            deleting_since=self.deleting_since,
        )

    def step(self) -> "Fleet":
        """Make one pass and write what it asks for."""
        plan = self.last = plan_adapter(self.observed(), self.look(), self.now)
        if plan.guard:
            self.guarded = True
        for each in plan.assign:
            assert self.guarded or each.entry is None, "nothing is told before the finalizer is there"
            self._tell(each.pod.name, each.entry)
        self.status = plan.status or self.status
        self.told += [each.reason for each in plan.events]
        if plan.guard is False:
            self.guarded = False
        return self

    def _tell(self, name: str, entry: DesiredAdapter | None) -> None:
        text = Desired(adapters=[entry] if entry else []).encode()
        desired: Mapping[str, DesiredAdapter] = {NAME: entry} if entry else {}
        self.pods[name] = replace(self.pods[name], desired=desired, desired_text=text)

    def act(self) -> "Fleet":
        """Let every agent act."""
        for name, agent in self.agents.items():
            if self.pods[name].running and self.pods[name].desired_text is not None:
                agent.act(self.pods[name].desired_text)
        return self

    def turn(self) -> "Fleet":
        """Make one pass, then let the agents act."""
        return self.step().act()

    def settle(self) -> "Fleet":
        """Go on until nothing changes any more."""
        for _ in range(200):
            before = (self.status, dict(self.pods), self.served)
            self.turn()
            if (self.status, dict(self.pods), self.served) == before:
                assert self.last.status is None, "a pass over an unchanged world writes nothing"
                assert not self.last.assign
                return self
        raise AssertionError("it never settles")

    def wait(self, seconds: float) -> "Fleet":
        """Let time pass."""
        self.now += timedelta(seconds=seconds)
        return self

    @property
    def served(self) -> dict[str, str]:
        """Digest that each engine serves."""
        return {name: each.served for name, each in self.agents.items()}

    def condition(self, kind: str) -> Condition:
        """Return a condition of the status."""
        found = find_condition(self.status.conditions, kind)
        assert found is not None, f"there is no condition {kind}"
        return found
