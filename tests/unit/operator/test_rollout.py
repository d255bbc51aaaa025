"""How a version reaches the pods: one first, then some at a time, and back if one gives it up."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_api.delivery import DesiredAdapter
from lora_api.loraadapter import RolloutStage, VersionState
from lora_api.reasons import Reason
from support.fleet import NAME, A, B, C, Fleet, digest, spec


def refuses(*digests: str, reason: Reason = Reason.NO_EFFECT, permanent: bool = True):  # type: ignore[no-untyped-def]
    """Return the fault of an agent that gives up on these digests."""
    return lambda entry: (reason, permanent) if entry.digest in digests else None


def running(count: int, wanted: str = A) -> Fleet:
    """Return a fleet that serves a version."""
    fleet = Fleet.of(count, spec(wanted)).settle()
    assert set(fleet.served.values()) <= {wanted}
    return fleet


class TestTheFirstVersion:
    def test_goes_to_one_pod_first(self) -> None:
        fleet = Fleet.of(4).turn()
        assert [name for name, each in fleet.served.items() if each] == ["pod-0"]
        assert fleet.condition("Progressing").reason == Reason.CANARY
        assert fleet.status.rollout is not None
        assert fleet.status.rollout.canary == "pod-0"

    def test_of_a_source_without_a_digest_is_found_by_one_pod_also_when_another_comes_meanwhile(self) -> None:
        fleet = Fleet.of(1, spec(None)).step()
        fleet.add("pod-1").settle()
        found = set(fleet.served.values())
        assert len(found) == 1
        assert found != {""}

    def test_then_a_quarter_at_a_time(self) -> None:
        fleet = Fleet.of(8).turn()
        counts = []
        while len(counts) < 4:
            fleet.turn()
            counts.append(sum(bool(each) for each in fleet.served.values()))
        assert counts == [3, 5, 7, 8]

    def test_ends_with_all_pods(self) -> None:
        fleet = Fleet.of(3).settle()
        assert set(fleet.served.values()) == {A}
        assert fleet.status.served_pods == "3/3"
        assert fleet.condition("Ready").status == "True"
        assert fleet.condition("Loaded").status == "True"
        assert fleet.condition("Progressing").reason == Reason.ROLLED_OUT
        assert fleet.condition("Degraded").status == "False"
        assert [(each.digest, each.state) for each in fleet.status.versions] == [(A, VersionState.SERVING)]
        assert fleet.told == [Reason.CANARY, Reason.ROLLING_OUT, Reason.ROLLED_OUT]

    def test_is_ready_with_the_pass_that_sees_the_last_pod(self) -> None:
        fleet = Fleet.of(2)
        while not all(fleet.served.values()):
            fleet.turn()
        fleet.step()
        assert fleet.condition("Ready").status == "True", "nothing would ask for another pass"
        assert fleet.last.requeue_after is None

    def test_waits_for_pods(self) -> None:
        fleet = Fleet.of(0).settle()
        assert fleet.condition("Ready").reason == Reason.NO_PODS
        assert not fleet.guarded, "an adapter that nobody asked for can go at once"
        fleet.add("pod-0").settle()
        assert fleet.served == {"pod-0": A}

    def test_a_version_that_fails_leaves_the_pods_without(self) -> None:
        fleet = Fleet.of(3)
        fleet.agents["pod-0"].fault = refuses(A)
        fleet.settle()
        assert set(fleet.served.values()) == {""}
        assert all(each.desired == {} for each in fleet.pods.values())
        assert fleet.condition("Degraded").reason == Reason.NO_EFFECT
        assert "no version was served before" in fleet.condition("Degraded").message


class TestAnUpdate:
    def test_reaches_all_pods_and_remembers_the_last(self) -> None:
        fleet = running(3).edit(spec(B)).settle()
        assert set(fleet.served.values()) == {B}
        assert (fleet.status.digest, fleet.status.previous_digest) == (B, A)
        assert [(each.digest, each.state) for each in fleet.status.versions] == [
            (B, VersionState.SERVING),
            (A, VersionState.SUPERSEDED),
        ]

    def test_leaves_the_others_as_they_are_until_the_first_pod_serves_it(self) -> None:
        fleet = running(3).edit(spec(B)).turn()
        assert sorted(fleet.served.values()) == [A, A, B]

    def test_that_the_first_pod_gives_up_goes_back(self) -> None:
        fleet = running(3).edit(spec(B))
        for each in fleet.agents.values():
            each.fault = refuses(B, reason=Reason.DIGEST_MISMATCH)
        fleet.settle()
        assert set(fleet.served.values()) == {A}
        degraded = fleet.condition("Degraded")
        assert (degraded.status, degraded.reason) == ("True", Reason.DIGEST_MISMATCH)
        assert "pod pod-0: because of DigestMismatch" in degraded.message
        assert "aaaaaaaaaaaa is still served" in degraded.message
        assert fleet.condition("Ready").reason == Reason.ROLLED_BACK
        assert fleet.condition("Loaded").status == "True"
        assert fleet.told.count(Reason.ROLLED_BACK) == 1
        assert {each.digest: each.state for each in fleet.status.versions} == {
            A: VersionState.SERVING,
            B: VersionState.REJECTED,
        }

    def test_that_a_later_pod_gives_up_goes_back_everywhere(self) -> None:
        fleet = running(4).edit(spec(B))
        fleet.agents["pod-2"].fault = refuses(B)
        fleet.settle()
        assert set(fleet.served.values()) == {A}
        assert fleet.status.rollout is not None
        assert fleet.status.rollout.canary == "pod-2"

    def test_that_was_given_up_is_not_tried_again_by_itself(self) -> None:
        fleet = running(2).edit(spec(B))
        fleet.agents["pod-0"].fault = refuses(B)
        fleet.settle()
        fleet.agents["pod-0"].fault = lambda entry: None
        fleet.wait(10_000).settle()
        assert set(fleet.served.values()) == {A}

    def test_that_was_given_up_is_tried_again_after_an_edit(self) -> None:
        fleet = running(2).edit(spec(B))
        fleet.agents["pod-0"].fault = refuses(B)
        fleet.settle()
        fleet.agents["pod-0"].fault = lambda entry: None
        fleet.edit(spec(B, verify={"effect": "Warn"})).settle()
        assert set(fleet.served.values()) == {B}
        assert fleet.condition("Degraded").status == "False"

    def test_that_was_given_up_is_tried_again_when_that_pod_was_replaced(self) -> None:
        fleet = running(2).edit(spec(B))
        fleet.agents["pod-0"].fault = refuses(B, reason=Reason.INCOMPATIBLE)
        fleet.settle()
        assert fleet.condition("Compatible").status == "False"
        fleet.remove("pod-0").add("pod-9").settle()
        assert set(fleet.served.values()) == {B}
        assert fleet.condition("Compatible").status == "Unknown"

    def test_another_version_in_the_middle_of_it(self) -> None:
        fleet = running(8).edit(spec(B)).turn().turn()
        fleet.edit(spec(C)).settle()
        assert set(fleet.served.values()) == {C}
        assert [each.digest for each in fleet.status.versions] == [C, A], "nobody was meant to keep the one between"

    def test_back_to_what_is_served_in_the_middle_of_it(self) -> None:
        fleet = running(8).edit(spec(B)).turn().turn().edit(spec(A)).settle()
        assert set(fleet.served.values()) == {A}
        assert fleet.condition("Ready").status == "True"

    def test_without_a_canary(self) -> None:
        fleet = running(4).edit(spec(B, rollout={"canary": False, "stepPercent": 100})).turn()
        assert set(fleet.served.values()) == {B}


class TestPodsThatComeAndGo:
    def test_a_new_pod_gets_what_the_others_serve(self) -> None:
        fleet = running(2).add("pod-9").turn()
        assert fleet.served["pod-9"] == A

    def test_a_new_pod_gets_the_last_version_while_another_is_tried(self) -> None:
        fleet = running(2).edit(spec(B))
        fleet.agents["pod-0"].fault = refuses(B, reason=Reason.SERVICE_UNAVAILABLE, permanent=False)
        fleet.turn().add("pod-9").turn()
        assert fleet.served["pod-9"] == A

    def test_the_first_pod_vanishes(self) -> None:
        fleet = running(3).edit(spec(B)).turn().remove("pod-0").settle()
        assert set(fleet.served.values()) == {B}

    def test_a_pod_that_stops_asking_lets_go(self) -> None:
        fleet = running(2)
        fleet.pods["pod-1"] = fleet.pods["pod-1"].__class__(
            **{each: getattr(fleet.pods["pod-1"], each) for each in fleet.pods["pod-1"].__slots__} | {"adapters": ()}
        )
        fleet.settle()
        assert fleet.served == {"pod-0": A, "pod-1": ""}
        assert fleet.status.served_pods == "1/1"

    def test_a_pod_without_agent_is_named_and_told_nothing(self) -> None:
        fleet = running(2).add("bare", injected=False).settle()
        assert fleet.condition("Degraded").reason == Reason.NOT_INJECTED
        assert "bare" in fleet.condition("Degraded").message
        assert fleet.pods["bare"].desired == {}
        assert fleet.status.served_pods == "2/3"

    def test_a_pod_that_does_not_run_yet_holds_nothing_up(self) -> None:
        fleet = Fleet.of(2).add("waiting", running=False).settle()
        assert fleet.condition("Ready").status == "True"
        assert NAME in fleet.pods["waiting"].desired, "it will serve it from its start"


class TestTrouble:
    def test_a_silent_pod_does_not_hold_up_the_others(self) -> None:
        fleet = running(3).edit(spec(B))
        fleet.agents["pod-1"].silent = 100.0
        fleet.settle()
        assert fleet.served == {"pod-0": B, "pod-1": A, "pod-2": B}
        assert fleet.pods["pod-1"].desired[NAME].digest == B, "it will follow when it is back"
        assert fleet.condition("Degraded").reason == Reason.POD_UNREACHABLE
        fleet.agents["pod-1"].silent = None
        fleet.settle()
        assert set(fleet.served.values()) == {B}
        assert fleet.condition("Degraded").status == "False"

    def test_storage_that_is_away_is_waited_for(self) -> None:
        fleet = running(2).edit(spec(B))
        for each in fleet.agents.values():
            each.fault = refuses(B, reason=Reason.SERVICE_UNAVAILABLE, permanent=False)
        fleet.settle()
        assert fleet.condition("Degraded").status == "False"
        assert "because of ServiceUnavailable" in fleet.condition("Progressing").message
        fleet.wait(601).settle()
        assert fleet.condition("Degraded").reason == Reason.ROLLOUT_TIMEOUT
        assert set(fleet.served.values()) == {A}
        for each in fleet.agents.values():
            each.fault = lambda entry: None
        fleet.settle()
        assert set(fleet.served.values()) == {B}
        assert fleet.condition("Degraded").status == "False"

    def test_what_an_agent_says_before_it_has_read_does_not_count(self) -> None:
        fleet = running(2).edit(spec(B)).step()
        agent = fleet.agents["pod-0"]
        assert agent.said is not None
        agent.said = agent.said.model_copy(update={"digest": B, "served_digest": B})
        fleet.step()
        assert fleet.pods["pod-1"].desired[NAME].digest == A


class TestVersions:
    def test_a_pin_is_a_rollback_by_hand(self) -> None:
        fleet = running(2).edit(spec(B)).settle().edit(spec(B, versions={"pin": A})).settle()
        assert set(fleet.served.values()) == {A}
        assert fleet.condition("Ready").reason == Reason.PINNED
        told = fleet.pods["pod-0"].desired[NAME]
        assert told.uri.endswith(A[-8:]), "from where it lay"

    def test_a_pinned_adapter_ignores_new_sources(self) -> None:
        fleet = running(2).edit(spec(A, versions={"pin": A})).settle().edit(spec(B, versions={"pin": A})).settle()
        assert set(fleet.served.values()) == {A}
        fleet.edit(spec(B)).settle()
        assert set(fleet.served.values()) == {B}

    def test_an_unknown_pin_changes_nothing_and_names_what_is_known(self) -> None:
        fleet = running(2).edit(spec(A, versions={"pin": C})).settle()
        assert set(fleet.served.values()) == {A}
        assert fleet.condition("Degraded").reason == Reason.PIN_NOT_FOUND
        assert "there: aaaaaaaaaaaa" in fleet.condition("Degraded").message

    def test_the_history_is_bounded(self) -> None:
        fleet = running(1)
        for letter in "bcdef0123":
            fleet.edit(spec(digest(letter), versions={"historyLimit": 3})).settle()
        assert [each.digest[-1] for each in fleet.status.versions] == ["3", "2", "1"]


class TestASourceWithoutADigest:
    def test_the_first_pod_finds_it_and_the_others_get_it(self) -> None:
        fleet = Fleet.of(3, spec(None)).settle()
        assert set(fleet.served.values()) == {C}
        assert {each.desired[NAME].digest for each in fleet.pods.values()} == {C}
        assert fleet.status.digest == C

    def test_other_content_at_the_same_place_is_not_taken(self) -> None:
        fleet = Fleet.of(1, spec(None)).settle().add("pod-9")
        fleet.agents["pod-9"].found = B
        fleet.settle()
        assert fleet.pods["pod-9"].desired[NAME].digest == C

    def test_one_pod_alone(self) -> None:
        assert Fleet.of(1, spec(None)).settle().status.digest == C

    def test_that_is_no_adapter(self) -> None:
        fleet = Fleet.of(2, spec(None))
        for each in fleet.agents.values():
            each.fault = lambda entry: (Reason.NOT_AN_ADAPTER, True)
        fleet.settle()
        assert fleet.condition("Degraded").reason == Reason.NOT_AN_ADAPTER
        assert "because of NotAnAdapter" in fleet.condition("Degraded").message


class TestDeletion:
    def test_the_pods_unload_it_then_it_goes(self) -> None:
        fleet = running(2)
        fleet.deleting_since = fleet.now
        fleet.step()
        assert fleet.guarded
        assert all(each.desired == {} for each in fleet.pods.values())
        fleet.act().step()
        assert not fleet.guarded
        assert fleet.told[-1] == Reason.UNLOADED

    def test_a_pod_that_cannot_be_reached_is_named_and_holds_it_up_for_a_minute(self) -> None:
        fleet = running(2)
        fleet.agents["pod-1"].silent = 5.0
        fleet.deleting_since = fleet.now
        fleet.turn().turn()
        assert fleet.guarded
        fleet.wait(61).step()
        assert not fleet.guarded
        assert fleet.told[-1] == Reason.POD_UNREACHABLE
        assert "pod-1" in fleet.last.events[-1].message
        assert "pod-0" not in fleet.last.events[-1].message


FAULTS = st.sampled_from([None, (Reason.NO_EFFECT, True), (Reason.SERVICE_UNAVAILABLE, False)])


@settings(max_examples=60, deadline=None)
@given(
    pods=st.integers(1, 6),
    wanted=st.lists(st.sampled_from("abcde"), min_size=1, max_size=5),
    faults=st.lists(st.dictionaries(st.sampled_from("abcde"), FAULTS), min_size=6, max_size=6),
    turns=st.integers(1, 6),
)
def test_whatever_happens_a_pod_keeps_serving_and_a_version_that_was_given_up_serves_nowhere(
    pods: int, wanted: list[str], faults: list[dict[str, tuple[Reason, bool] | None]], turns: int
) -> None:
    fleet = running(pods, digest("f"))

    def fault_of(known: dict[str, tuple[Reason, bool] | None]):  # type: ignore[no-untyped-def]
        def fault(entry: DesiredAdapter) -> tuple[Reason, bool] | None:
            return known.get((entry.digest or "")[-1:])

        return fault

    for agent, known in zip(fleet.agents.values(), faults, strict=False):
        agent.fault = fault_of(known)
    for letter in wanted:
        fleet.edit(spec(digest(letter)))
        for _ in range(turns):
            fleet.wait(1).turn()
            assert all(fleet.served.values()), "no pod is ever without the adapter"
    fleet.settle()
    if fleet.status.rollout and fleet.status.rollout.stage == RolloutStage.FAILED:
        assert digest(wanted[-1]) not in fleet.served.values()
    assert fleet.now - fleet.status.conditions[0].last_transition_time >= timedelta(0)


def test_no_pass_over_many_pods_writes_twice() -> None:
    fleet = running(50)
    assert fleet.step().last.assign == ()


@pytest.mark.parametrize("count", [1, 2, 3, 10, 50])
def test_the_number_of_turns_is_small(count: int) -> None:
    fleet = running(count).edit(spec(B))
    turns = 0
    while set(fleet.served.values()) != {B}:
        fleet.turn()
        turns += 1
    assert turns <= 10
