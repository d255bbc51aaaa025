"""One adapter's life as tables: what is known, and what is done next."""

from dataclasses import replace

import pytest

from lora_agent import slot as slots
from lora_agent.decide import (
    UNPROVED,
    Action,
    Check,
    Download,
    Load,
    Probe,
    Wait,
    World,
    conflicts_of,
    departures,
    garbage,
    lost,
    next_action,
    restarted,
)
from lora_agent.faults import Fault
from lora_agent.gate import Standing, is_ready, is_started, still_waited
from lora_agent.memory import Loaded
from lora_agent.slot import Slot
from lora_agent.transfer.protocol import StoreRecord
from lora_api.delivery import AdapterState, Desired
from lora_api.loraadapter import Check as Policy
from lora_api.loraadapter import Verify
from lora_api.reasons import Reason
from unit.agent.fakes import BASE, digest_for, wish

NEW, OLD = digest_for(b"one"), digest_for(b"old")
BASES = (BASE,)
KEY = (NEW, BASES)
UNVERIFIED = Verify(effect=Policy.OFF, samples=Policy.OFF)
RETRIED = Fault(Reason.SERVICE_UNAVAILABLE, "S3 is away", permanent=False)
FINAL = Fault(Reason.INCOMPATIBLE, "rank 64 is above 16", permanent=True)
REFUSED = Fault(Reason.ENGINE_REFUSED, "no", permanent=True)


def record(digest: str, *, samples: bool = False) -> StoreRecord:
    return StoreRecord(digest=digest, files=[], has_samples=samples)


def world(*on_disk: str, shown: dict[str, str] | None = None, up: bool = True, **more: object) -> World:
    store = {digest: record(digest) for digest in on_disk}
    fields: dict[str, object] = {"loaded": {}, "bases": BASES} | more
    return World(store=store, shown=(shown or {}) if up else None, **fields)  # type: ignore[arg-type]


FRESH = Slot(wish())
CHECKED = replace(FRESH, checked=KEY)
PROBED = replace(CHECKED, probed=NEW)
NOW = 100.0


@pytest.mark.parametrize(
    ("what", "slot", "known", "expected"),
    [
        ("new: its files are got", FRESH, world(), Download(NEW)),
        ("new, without a digest: whatever is there is got", Slot(wish(content=None)), world(), Download(None)),
        ("new, engine away: its files are got all the same", FRESH, world(up=False), Download(NEW)),
        ("on disk: looked at before the engine is asked", FRESH, world(NEW, up=False), Check(NEW)),
        ("fit: asked under another name first", CHECKED, world(NEW), Probe(NEW)),
        ("fit, an engine that cannot stage: loaded", CHECKED, world(NEW, can_stage=False), Load(NEW)),
        ("fit, no probe is asked for: loaded", replace(CHECKED, wanted=wish(verify=UNVERIFIED)), world(NEW), Load(NEW)),
        ("good: loaded", PROBED, world(NEW), Load(NEW)),
        ("good, and another version is served: loaded over it", PROBED, world(NEW, OLD, shown={"bot": OLD}), Load(NEW)),
        (
            "loaded, as the list shows: nothing is left to do",
            PROBED,
            world(NEW, shown={"bot": NEW}),
            Wait(AdapterState.SERVED),
        ),
        ("served, its files are gone: got again", PROBED, world(shown={"bot": NEW}), Download(NEW)),
        (
            "an agent died in the middle of the load: loaded again",
            PROBED,
            world(NEW, shown={"bot": UNPROVED}),
            Load(NEW),
        ),
        ("the engine restarted with another base: looked at again", PROBED, world(NEW, bases=("other",)), Check(NEW)),
        (
            "failed a moment ago: it waits",
            replace(FRESH, fault=RETRIED, retry_at=NOW + 1),
            world(),
            Wait(AdapterState.FAILED, RETRIED),
        ),
        (
            "failed, and the time is over: tried again",
            replace(FRESH, fault=RETRIED, retry_at=NOW),
            world(),
            Download(NEW),
        ),
        (
            "failed for good: never tried again",
            replace(CHECKED, fault=FINAL, retry_at=0.0),
            world(NEW),
            Wait(AdapterState.FAILED, FINAL),
        ),
        (
            "failed for good, engine away: that is still what is said",
            replace(CHECKED, fault=FINAL),
            world(NEW, up=False),
            Wait(AdapterState.FAILED, FINAL),
        ),
        (
            "an engine that reads a folder is not waited for",
            replace(CHECKED, wanted=wish(verify=UNVERIFIED)),
            world(NEW, up=False, works_offline=True),
            Load(NEW),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_next_action(what: str, slot: Slot, known: World, expected: Action) -> None:
    assert next_action(slot, known, NOW) == expected


def test_an_engine_that_is_away_is_waited_for_and_named() -> None:
    action = next_action(PROBED, world(NEW, up=False), NOW)
    assert isinstance(action, Wait)
    assert action.state is AdapterState.ON_DISK
    assert action.fault is not None
    assert action.fault.reason is Reason.ENGINE_UNREACHABLE


def test_what_lies_in_the_engines_folder_is_not_put_there_again() -> None:
    known = world(NEW, works_offline=True, can_stage=False, loaded={"bot": Loaded(digest=NEW)})
    action = next_action(CHECKED, known, NOW)
    assert isinstance(action, Wait)
    assert action.state is AdapterState.LOADING


@pytest.mark.parametrize(
    ("samples", "policy", "probes"), [(True, Policy.WARN, True), (False, Policy.WARN, False), (True, Policy.OFF, False)]
)
def test_without_an_effect_check_only_recorded_samples_ask_for_a_probe(
    samples: bool, policy: Policy, probes: bool
) -> None:
    slot = replace(CHECKED, wanted=wish(verify=Verify(effect=Policy.OFF, samples=policy)))
    known = replace(world(NEW), store={NEW: record(NEW, samples=samples)})
    assert next_action(slot, known, NOW) == (Probe(NEW) if probes else Load(NEW))


class TestFailures:
    @pytest.mark.parametrize(
        ("failures", "reason", "seconds"),
        [
            (1, Reason.SERVICE_UNAVAILABLE, 1),
            (2, Reason.SERVICE_UNAVAILABLE, 2),
            (5, Reason.SERVICE_UNAVAILABLE, 16),
            (7, Reason.SERVICE_UNAVAILABLE, 60),
            (1000, Reason.SERVICE_UNAVAILABLE, 60),
            (1, Reason.NO_PERMISSION, 30),
            (2, Reason.INPUT_NOT_FOUND, 60),
        ],
    )
    def test_the_delay_doubles_up_to_a_minute(self, failures: int, reason: Reason, seconds: float) -> None:
        assert slots.delay(failures, reason, jitter=0.0) == seconds
        assert slots.delay(failures, reason, jitter=1.0) == seconds * 0.75

    def test_other_content_than_promised_is_final_the_third_time(self) -> None:
        fault = Fault(Reason.DIGEST_MISMATCH, "other bytes", permanent=False)
        slot = FRESH
        seen = []
        for _ in range(3):
            slot = slots.failed(slot, fault, NOW, 0.0)
            assert slot.fault is not None
            seen.append(slot.fault.permanent)
        assert seen == [False, False, True]

    def test_a_success_makes_the_next_failure_the_first_one(self) -> None:
        slot = slots.downloaded(slots.failed(FRESH, RETRIED, NOW, 0.0), NEW, 5)
        assert (slot.fault, slot.failures) == (None, 0)
        assert slots.failed(slot, RETRIED, NOW, 0.0).retry_at == NOW + 1

    def test_a_final_failure_ends_when_something_else_is_desired(self) -> None:
        slot = slots.failed(CHECKED, FINAL, NOW, 0.0)
        assert slots.revised(slot, slot.wanted) is slot
        assert next_action(slots.revised(slot, wish(content=b"two")), world(NEW), NOW) == Download(digest_for(b"two"))

    def test_another_process_of_the_engine_is_asked_again_and_failures_still_count(self) -> None:
        slot = slots.engine_returned(slots.failed(PROBED, REFUSED, NOW, 0.0))
        assert (slot.fault, slot.failures) == (None, 1)
        unfit = slots.failed(PROBED, FINAL, NOW, 0.0)
        assert slots.engine_returned(unfit) == unfit


class TestVersions:
    def test_the_version_before_is_kept_once_the_list_shows_the_new_one(self) -> None:
        slot = slots.observed(PROBED, OLD, on_disk=True)
        assert (slot.served, slot.previous) == (OLD, "")
        slot = slots.observed(slot, NEW, on_disk=True)
        assert (slot.served, slot.previous) == (NEW, OLD)

    def test_an_engine_that_forgot_everything_changes_no_history(self) -> None:
        slot = slots.observed(slots.observed(PROBED, NEW, on_disk=True), "", on_disk=True)
        assert (slot.served, slot.previous) == (NEW, "")

    def test_a_digest_that_was_found_stays_when_it_is_pinned(self) -> None:
        slot = replace(Slot(wish(content=None)), found=NEW, probed=NEW)
        pinned = slots.revised(slot, wish(content=None, digest=NEW))
        assert (pinned.target, pinned.probed) == (NEW, NEW)

    def test_another_source_forgets_what_was_found(self) -> None:
        slot = replace(Slot(wish(content=None)), found=NEW)
        assert slots.revised(slot, wish(content=None, uri="s3://bucket/else")).target == ""


class TestNames:
    def test_of_two_adapters_with_one_name_the_first_by_name_has_it(self) -> None:
        desired = Desired(adapters=[wish("b", served_name="x"), wish("a", served_name="x"), wish("c")])
        faults = conflicts_of(desired, {}, BASES)
        assert list(faults) == ["b"]
        assert faults["b"].reason is Reason.NAME_CONFLICT
        assert "LoRAAdapter a" in faults["b"].message

    @pytest.mark.parametrize(("shown", "bases"), [({"bot": ""}, ()), ({}, ("bot",))])
    def test_a_name_of_the_engines_own_is_refused(self, shown: dict[str, str], bases: tuple[str, ...]) -> None:
        assert "bot" in conflicts_of(Desired(adapters=[wish()]), shown, bases)

    @pytest.mark.parametrize(
        ("what", "wanted", "shown", "loaded", "offline", "expected"),
        [
            ("what is not desired goes", set(), {"bot": NEW}, {}, False, ["bot"]),
            ("what is desired stays", {"bot"}, {"bot": OLD}, {}, False, []),
            ("a text never seen unloads nothing", None, {"bot": NEW}, {"bot": Loaded(digest=NEW)}, False, []),
            ("names of others are never touched", set(), {"theirs": ""}, {}, False, []),
            ("a probe that an agent left behind goes", set(), {"lora-probe-1": NEW}, {}, False, ["lora-probe-1"]),
            ("engine away: memory says what will go", set(), None, {"bot": Loaded(digest=NEW)}, False, ["bot"]),
            ("gone from the list: done", set(), {}, {"bot": Loaded(digest=NEW)}, False, []),
            ("a link stays until it is removed", set(), {}, {"bot": Loaded(digest=NEW)}, True, ["bot"]),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_departures(
        self,
        what: str,
        wanted: set[str] | None,
        shown: dict[str, str] | None,
        loaded: dict[str, Loaded],
        offline: bool,
        expected: list[str],
    ) -> None:
        names = None if wanted is None else frozenset(wanted)
        assert departures(names, shown, loaded, offline=offline) == expected

    @pytest.mark.parametrize(
        ("before", "after", "expected"),
        [
            ({"bot": NEW}, {}, True),
            ({"bot": NEW, "theirs": ""}, {"theirs": ""}, True),
            ({"bot": NEW, "two": OLD}, {"two": OLD}, False),
            ({}, {}, False),
            (None, {}, False),
        ],
    )
    def test_an_engine_that_lost_all_was_restarted(
        self, before: dict[str, str] | None, after: dict[str, str], expected: bool
    ) -> None:
        assert restarted(before, after) is expected


class TestFolders:
    def test_only_what_nobody_needs_is_removed(self) -> None:
        rest = digest_for(b"rest")
        slot = replace(PROBED, served=NEW, previous=OLD)
        shown = {"bot": NEW}
        assert garbage([NEW, OLD, rest], [slot], shown, {}, keep_previous=True) == [rest]
        assert set(garbage([NEW, OLD, rest], [slot], shown, {}, keep_previous=False)) == {OLD, rest}

    def test_the_old_version_stays_until_the_list_shows_the_new_one(self) -> None:
        assert garbage([NEW, OLD], [PROBED], {"bot": OLD}, {}, keep_previous=False) == []

    def test_nothing_is_removed_while_the_engine_is_away(self) -> None:
        assert garbage([OLD], [], None, {}, keep_previous=False) == []

    def test_what_the_engine_is_being_given_stays(self) -> None:
        assert garbage([NEW], [], {}, {"bot": Loaded(intended=NEW)}, keep_previous=False) == []


class TestAVersionThatTheEngineForgot:
    """While the new version is not to be had, an engine that restarts is given back the one it served."""

    UPDATING = replace(FRESH, served=OLD, fault=RETRIED)

    @pytest.mark.parametrize(
        ("what", "slot", "known", "expected"),
        [
            ("the new files do not come", UPDATING, world(OLD), OLD),
            ("they are on their way for the first time", replace(UPDATING, fault=None), world(OLD), OLD),
            ("the engine still has it", UPDATING, world(OLD, shown={"bot": OLD}), ""),
            ("the engine does not answer", UPDATING, world(OLD, up=False), ""),
            ("its files are gone", UPDATING, world(), ""),
            ("the new one is there and about to be loaded", replace(UPDATING, fault=None), world(OLD, NEW), ""),
            ("the new one is there and was refused", replace(UPDATING, fault=FINAL), world(OLD, NEW), OLD),
            ("it is the wanted one", replace(UPDATING, served=NEW), world(NEW), ""),
            ("nothing was served", replace(UPDATING, served=""), world(), ""),
        ],
    )
    def test_is_given_back(self, what: str, slot: Slot, known: World, expected: str) -> None:
        assert lost(slot, known) == expected, what


class TestGate:
    DISK = Standing(on_disk=True, served=False, hopeless=False)
    SERVED = Standing(on_disk=True, served=True, hopeless=False)
    LOST = Standing(on_disk=False, served=False, hopeless=True)
    COMING = Standing(on_disk=False, served=False, hopeless=False)

    @pytest.mark.parametrize(
        ("strict", "waited", "standings", "patience_over", "expected"),
        [
            ([], None, {}, False, False),
            ([], None, {}, True, True),
            (["bot"], None, {}, True, False),
            ([], [], {}, False, True),
            ([], ["bot"], {"bot": COMING}, True, False),
            ([], ["bot"], {"bot": DISK}, False, True),
            (["bot"], [], {"bot": LOST}, True, False),
            (["bot"], [], {"bot": DISK}, False, True),
        ],
    )
    def test_start(
        self,
        strict: list[str],
        waited: list[str] | None,
        standings: dict[str, Standing],
        patience_over: bool,
        expected: bool,
    ) -> None:
        assert is_started(strict, waited, standings, patience_over=patience_over) is expected

    def test_readiness_waits_for_those_that_are_served(self) -> None:
        assert not is_ready([], ["bot"], {"bot": self.DISK})
        assert is_ready([], ["bot"], {"bot": self.SERVED})
        assert is_ready([], ["bot"], {"bot": self.SERVED, "later": self.LOST})
        assert not is_ready(["strict"], [], {"strict": self.LOST})

    def test_who_failed_for_good_is_not_waited_for_any_more(self) -> None:
        standings = {"bot": self.LOST, "two": self.COMING}
        assert still_waited(["bot", "two", "unwanted"], standings) == ["two"]
