"""The Lease: who may take it, what is written, when it is lost, and that nothing is written afterwards."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from lora_operator.app.leader import Leadership, LeadershipLostError
from lora_operator.cluster.lease import (
    FencedClient,
    LeaseTimes,
    Move,
    NotLeadingError,
    Record,
    Sighting,
    decide,
    next_spec,
    read_record,
    released_spec,
    see,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
THEIRS = Record(holder="other", renewed="2026-01-02T03:04:05.000000Z", duration=15)


@pytest.mark.parametrize(
    ("record", "unchanged_for", "move"),
    [
        (None, 0.0, Move.CREATE),
        (Record("me", "t", 15), 0.0, Move.RENEW),
        (Record("me", "t", 15), 3600.0, Move.RENEW),
        (Record("", "t", 15), 0.0, Move.TAKE),
        (THEIRS, 0.0, Move.WAIT),
        (THEIRS, 14.9, Move.WAIT),
        (THEIRS, 15.0, Move.TAKE),
        (Record("other", "t", 60), 15.0, Move.WAIT),
    ],
    ids=["absent", "mine", "mine for long", "released", "theirs", "nearly over", "over", "their duration counts"],
)
def test_who_may_take_the_lease(record: Record | None, unchanged_for: float, move: Move) -> None:
    assert decide(Sighting(record, since=100.0), "me", 100.0 + unchanged_for) is move


def test_the_age_of_a_record_counts_from_when_it_was_first_seen_here() -> None:
    """A holder whose clock is a year ahead, or behind, is no better and no worse off."""
    first = see(None, THEIRS, 100.0)
    assert see(first, THEIRS, 110.0) == first
    renewed = Record("other", "2030-01-01T00:00:00.000000Z", 15)
    assert see(first, renewed, 110.0) == Sighting(renewed, 110.0)
    assert see(first, None, 110.0) == Sighting(None, 110.0)


def test_a_new_holder_is_counted_and_a_renewal_is_not() -> None:
    times = LeaseTimes()
    first = next_spec(Move.CREATE, {}, "me", times, NOW)
    assert first == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-01-02T03:04:05.000678Z",
        "renewTime": "2026-01-02T03:04:05.000678Z",
        "leaseTransitions": 0,
    }
    later = NOW.replace(minute=5)
    renewed = next_spec(Move.RENEW, first, "me", times, later)
    assert renewed == first | {"renewTime": "2026-01-02T03:05:05.000678Z"}
    taken = next_spec(Move.TAKE, renewed, "other", times, later)
    assert (taken["holderIdentity"], taken["leaseTransitions"]) == ("other", 1)
    assert read_record({"spec": released_spec(taken, later)}).holder == ""


def test_a_lease_that_says_nothing_is_nobodys() -> None:
    assert read_record({}) == Record(holder="", renewed="", duration=15.0)


class Store:
    """A Lease as the API server keeps it: a write that names an old version is refused."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.before_write: Callable[[], None] = lambda: None
        self.fault: Exception | None = None

    async def read(self, namespace: str, name: str) -> dict[str, Any] | None:
        if self.fault:
            raise self.fault
        return self.lease

    async def write(self, document: dict[str, Any]) -> bool:
        self.before_write()
        if self.fault:
            raise self.fault
        if document["metadata"].get("resourceVersion") != (str(self.version) if self.lease else None):
            return False
        self.version += 1
        self.lease = document | {"metadata": document["metadata"] | {"resourceVersion": str(self.version)}}
        return True

    @property
    def holder(self) -> str:
        return read_record(self.lease or {}).holder


class Replica:
    """A replica whose clock moves only while it sleeps, and when a test says so."""

    def __init__(self, store: Store, name: str) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.after_sleep: Callable[[], None] = lambda: None
        self.leadership = Leadership(
            store,  # type: ignore[arg-type]
            namespace="system",
            name="lora-operator",
            identity=name,
            clock=lambda: self.now,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self.after_sleep()
        await asyncio.sleep(0)

    def acquire(self) -> "Replica":
        asyncio.run(self.leadership.acquire())
        return self


def test_a_second_replica_waits_as_long_as_the_lease_lasts() -> None:
    store = Store()
    first, second = Replica(store, "first").acquire(), Replica(store, "second")
    assert first.leadership.is_held()
    started = second.now
    second.acquire()
    assert 15 <= second.now - started <= 15.2
    assert store.holder == second.leadership.identity


def test_a_released_lease_is_taken_at_once() -> None:
    store = Store()
    first = Replica(store, "first").acquire()
    asyncio.run(first.leadership.release())
    assert not first.leadership.is_held()
    second = Replica(store, "second").acquire()
    assert second.slept == []


def test_what_another_holds_is_not_released() -> None:
    store = Store()
    first = Replica(store, "first").acquire()
    second = Replica(store, "second").acquire()
    asyncio.run(first.leadership.release())
    assert store.holder == second.leadership.identity


def test_two_processes_of_one_name_are_two_replicas() -> None:
    store = Store()
    assert Replica(store, "pod").leadership.identity != Replica(store, "pod").leadership.identity


def test_of_two_that_decide_the_same_one_gets_it() -> None:
    store = Store()
    slower = Replica(store, "slower")

    def another_is_quicker() -> None:
        store.before_write = lambda: None
        meta = {"namespace": "system", "name": "lora-operator", "resourceVersion": "1"}
        store.version, store.lease = 1, {"metadata": meta, "spec": {"holderIdentity": "quicker", "renewTime": "t"}}

    store.before_write = another_is_quicker
    slower.acquire()
    assert slower.now - 1000.0 >= 15, "it waited for the end of the other's Lease"


def test_a_leader_that_cannot_renew_is_one_for_ten_seconds() -> None:
    store = Store()
    leader = Replica(store, "leader").acquire()
    started = leader.now
    store.fault = OSError("no route to host")
    with pytest.raises(LeadershipLostError, match="not renewed for 10 s"):
        asyncio.run(leader.leadership.keep())
    assert leader.now - started == pytest.approx(10.0)
    assert not leader.leadership.is_held()


def test_a_short_fault_is_survived() -> None:
    store = Store()
    leader = Replica(store, "leader").acquire()
    store.fault = OSError("connection reset")

    def script() -> None:
        if leader.now > 1007:
            store.fault = None
        if leader.now > 1060:
            store.fault = OSError("gone for good")

    leader.after_sleep = script
    with pytest.raises(LeadershipLostError):
        asyncio.run(leader.leadership.keep())
    assert leader.now > 1065


def test_a_leader_that_slept_wakes_up_as_none_and_does_not_renew() -> None:
    store = Store()
    leader = Replica(store, "leader").acquire()
    renewals = store.version

    def pause() -> None:
        leader.now += 3600

    leader.after_sleep = pause
    assert leader.leadership.is_held()
    with pytest.raises(LeadershipLostError):
        asyncio.run(leader.leadership.keep())
    assert store.version == renewals


def test_a_renewal_counts_from_before_it_was_sent() -> None:
    store = Store()
    leader = Replica(store, "leader")

    def pause() -> None:
        leader.now += 11

    store.before_write = pause
    leader.acquire()
    assert not leader.leadership.is_held(), "others count from when they saw it"


def test_a_leader_that_sees_another_holder_gives_up_at_once() -> None:
    store = Store()
    leader = Replica(store, "leader").acquire()
    assert store.lease is not None
    store.lease["spec"] |= {"holderIdentity": "other"}
    with pytest.raises(LeadershipLostError, match="held by other"):
        asyncio.run(leader.leadership.keep())
    assert leader.now == 1002.0


def test_only_reads_are_sent_without_the_lease() -> None:
    sent: list[str] = []

    class Recording(FencedClient):
        async def get_document(self) -> None:
            await self._call("GET", "/a")

        async def change(self, method: str) -> None:
            await self._call(method, "/a", body={})

    class Api:
        async def param_serialize(self, method: str, *_: Any, **__: Any) -> tuple[str]:
            return (method,)

        async def call_api(self, method: str, **_: Any) -> Any:
            sent.append(method)
            return Answer()

    class Answer:
        status = 200

        async def read(self) -> bytes:
            return b"{}"

    held = [True]
    client = Recording(Api(), lambda: held[0])  # type: ignore[arg-type]
    asyncio.run(client.change("PATCH"))
    held[0] = False
    asyncio.run(client.get_document())
    for method in ("PATCH", "POST", "PUT", "DELETE"):
        with pytest.raises(NotLeadingError, match="does not hold the Lease"):
            asyncio.run(client.change(method))
    assert sent == ["PATCH", "GET"]
