"""Which adapters a change of a pod, or a word of its agent, matters to; and how often a pod is asked."""

from dataclasses import replace

import pytest

from lora_api.delivery import AdapterState, AgentAdapter, AgentStatus, Desired, EngineStatus
from lora_api.reasons import Reason
from lora_operator.domain.adapter_pods import in_motion, named_in, pod_states, serving_pod
from lora_operator.domain.adapter_versions import Version, entry_of
from lora_operator.domain.inference import AgentReport, InferencePod
from support.fleet import NAME, A, Agent, B, pod, spec


def told(name: str, digest: str = A) -> InferencePod:
    """Return a pod that was told to serve a version."""
    entry = entry_of(NAME, spec(digest), Version(digest, spec(digest).source, spec(digest).base_model))
    return replace(pod(name), desired={NAME: entry}, desired_text=Desired(adapters=[entry]).encode())


def status(*adapters: AgentAdapter, uid: str = "uid-pod-0", desired: str = "") -> AgentStatus:
    """Return an answer of an agent."""
    return AgentStatus(pod_uid=uid, engine=EngineStatus(kind="vllm"), desired_digest=desired, adapters=list(adapters))


def said(name: str = NAME, **fields: object) -> AgentAdapter:
    """Return what an agent says of an adapter that it serves."""
    known = {"name": name, "served_name": name, "state": AdapterState.SERVED, "digest": A, "served_digest": A}
    return AgentAdapter.model_validate(known | fields)


CHANGES = [
    ("a pod that is new", None, pod("pod-0", adapters=("a", "b")), {"a", "b"}),
    ("a pod that is gone", told("pod-0"), None, {NAME}),
    ("a heartbeat", told("pod-0"), told("pod-0"), set()),
    (
        "another version of one of two",
        told("pod-0"),
        replace(told("pod-0", B), adapters=(NAME, "other")),
        {NAME, "other"},
    ),
    (
        "a start of the agent",
        pod("pod-0", adapters=("a", "b"), running=False),
        pod("pod-0", adapters=("a", "b")),
        {"a", "b"},
    ),
    ("another wish", pod("pod-0", adapters=("a", "b")), pod("pod-0", adapters=("b", "c")), {"a", "c"}),
]


@pytest.mark.parametrize(
    ("before", "after", "names"), [each[1:] for each in CHANGES], ids=[each[0] for each in CHANGES]
)
def test_which_adapters_a_change_of_a_pod_matters_to(
    before: InferencePod | None, after: InferencePod | None, names: set[str]
) -> None:
    assert named_in(before, after) == names


def heard(of: InferencePod, agent: Agent) -> AgentStatus | None:
    """Let an agent read what its pod was told, and return what it says."""
    agent.act(of.desired_text)
    return agent.report(of.uid).status


def test_a_pod_is_asked_often_only_while_it_is_about_to_change() -> None:
    assert not in_motion(pod("pod-0"), None), "it was told nothing"
    assert in_motion(told("pod-0"), None), "it has not heard yet"
    assert not in_motion(told("pod-0"), heard(told("pod-0"), Agent()))
    assert in_motion(told("pod-0", B), heard(told("pod-0"), Agent())), "it was told something else since"
    assert not in_motion(told("pod-0"), heard(told("pod-0"), Agent(fault=lambda _: (Reason.NO_EFFECT, True))))
    assert not in_motion(replace(told("pod-0"), running=False), None)


class TestAForgedAnswer:
    """An agent that lies: it can say what it likes of its own pod, and nothing of anything else."""

    def test_adapters_that_the_pod_was_not_told_are_not_shown(self) -> None:
        answer = status(said("other", message="look at me"))
        view = serving_pod(told("pod-0"), AgentReport(answer, None), NAME)
        assert view.said is None
        assert [each.state for each in pod_states([view], 10)] == ["Pending"]

    def test_a_reason_that_is_none_of_ours_is_not_passed_on(self) -> None:
        from support.fleet import Fleet

        fleet = Fleet.of(2).settle().edit(spec(B))
        for agent in fleet.agents.values():
            agent.fault = lambda entry: ("<script>", True) if entry.digest == B else None  # type: ignore[arg-type,return-value]
        fleet.settle()
        assert fleet.condition("Degraded").reason == Reason.ENGINE_REFUSED


def test_pods_with_trouble_come_first_and_the_list_is_bounded() -> None:
    views = [serving_pod(pod(f"pod-{index}"), AgentReport(), NAME) for index in range(5)]
    views.append(serving_pod(pod("bare", injected=False), AgentReport(), NAME))
    states = pod_states(views, 3)
    assert [each.name for each in states] == ["bare", "pod-0", "pod-1"]
