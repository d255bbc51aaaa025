"""Carrying out a plan: the order of the writes, and what is told when one of them fails."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lora_operator.cluster.client import AlreadyExistsError, ApiError
from lora_operator.cluster.execute import execute
from lora_operator.domain.errors import RefusedError
from lora_operator.domain.events import Event, build_event
from lora_operator.domain.needs import everything, first_needs, needs_of
from lora_operator.domain.observed import Observed, Stage
from lora_operator.domain.plan import plan
from lora_operator.reconcile.lorajob import LoRAJobReconciler
from support.samples import TRAIN_DONE, lorajob
from support.world import SETTINGS, START, World, accepted, ended, read_lorajob, training


class RecordingClient:
    """Records writes, and fails those of some kinds."""

    def __init__(self, **failures: Exception) -> None:
        self.failures = failures
        self.writes: list[str] = []
        self.statuses: list[dict[str, Any]] = []

    def _write(self, what: str) -> None:
        if what in self.failures:
            raise self.failures[what]
        self.writes.append(what)

    async def create(self, document: dict[str, Any]) -> None:
        self._write(document["kind"])

    async def delete(self, resource: Any, namespace: str, name: str, uid: str) -> None:
        self._write(f"delete {name}")

    async def set_finalizers(
        self, resource: Any, namespace: str, name: str, finalizers: list[str], version: str
    ) -> None:
        self._write(f"finalizers {finalizers}")

    async def apply(self, document: dict[str, Any]) -> None:
        self._write(document["kind"])

    async def apply_status(self, document: dict[str, Any]) -> None:
        self._write("status")
        self.statuses.append(document)

    async def create_event(self, document: dict[str, Any]) -> None:
        self._write(document["reason"])


class FixedObserver:
    """Sees always the same."""

    def __init__(self, observed: Observed | None) -> None:
        self.observed = observed
        self.asked: list[object] = []

    async def observe(self, namespace: str, name: str, needs: object) -> Observed | None:
        self.asked.append(needs)
        return self.observed


def reconcile(client: RecordingClient, observed: Observed | None) -> float | None:
    reconciler = LoRAJobReconciler(client, FixedObserver(observed), SETTINGS, lambda: START)  # type: ignore[arg-type]
    return asyncio.run(reconciler.reconcile("team-a", "support-bot"))


def test_children_come_before_the_status_and_events_after_it() -> None:
    client = RecordingClient()
    assert reconcile(client, finished()) is None
    assert client.writes == ["LoRAAdapter", "status", "AdapterPublished"]


def test_a_status_that_is_not_written_tells_nothing() -> None:
    client = RecordingClient(status=ApiError(500, "etcd is away"))
    observed = finished()
    with pytest.raises(ApiError):
        asyncio.run(execute(client, observed.job, plan(observed, SETTINGS, START), START))  # type: ignore[arg-type]
    assert client.writes == ["LoRAAdapter"]


def test_a_refused_child_becomes_a_status() -> None:
    client = RecordingClient(Job=RefusedError(status=403, subject="Job x", message="exceeded quota: count/jobs"))
    assert reconcile(client, World.of().observed) == SETTINGS.refused_interval
    assert client.writes == ["status", "QuotaExceeded"], "no preflight starts"
    assert client.statuses[0]["status"]["failure"]["reason"] == "QuotaExceeded"


def finished() -> Observed:
    """Return what is seen of a training that has just ended."""
    return training().see_work(Stage.TRAIN, ended(0, TRAIN_DONE), complete=True).observed


def test_of_a_new_job_nothing_is_told_before_its_first_object_is_there() -> None:
    client, observer = RecordingClient(), FixedObserver(World.of().observed)
    reconciler = LoRAJobReconciler(client, observer, SETTINGS, lambda: START)  # type: ignore[arg-type]
    assert asyncio.run(reconciler.reconcile("team-a", "support-bot")) == 1.0
    assert client.writes == ["Job"]

    observer.observed = accepted().see(job=World.of().job).observed
    asyncio.run(reconciler.reconcile("team-a", "support-bot"))
    assert observer.asked == [needs_of, first_needs]
    assert client.writes == ["Job", "status"]
    asyncio.run(reconciler.reconcile("team-a", "support-bot"))
    assert observer.asked[-1] is needs_of, "the status says it now"


def test_the_finalizer_comes_first_and_goes_last() -> None:
    client = RecordingClient()
    reconcile(client, World.of(deletionPolicy="Delete").observed)
    assert client.writes == ["finalizers ['lora-operator.io/artifacts']", "Job"]

    world = training(deletionPolicy="Delete")
    world.see(job=replace(world.job, deleting=True)).settle().gone().settle()
    client = RecordingClient()
    reconcile(client, world.see_work(Stage.CLEANUP, complete=True).observed)
    assert client.writes == ["delete support-bot-1-cleanup", "ArtifactsRemoved", "finalizers []"]


def test_an_object_that_somebody_made_meanwhile_is_looked_at() -> None:
    client = RecordingClient(Job=AlreadyExistsError("Job x"))
    observer = FixedObserver(World.of().observed)
    reconciler = LoRAJobReconciler(client, observer, SETTINGS, lambda: START)  # type: ignore[arg-type]
    with pytest.raises(AlreadyExistsError):  # for this observer it is never there
        asyncio.run(reconciler.reconcile("team-a", "support-bot"))
    assert observer.asked == [needs_of, everything], "the second look reads all"
    assert client.writes == []


def test_the_status_is_for_this_very_object() -> None:
    client, observed = RecordingClient(), finished()
    reconcile(client, observed)
    assert client.statuses[0]["metadata"]["uid"] == observed.job.uid


def test_a_job_that_is_gone_needs_nothing() -> None:
    client = RecordingClient()
    assert reconcile(client, None) is None
    assert client.writes == []


def test_the_name_of_an_event_follows_from_what_it_says() -> None:
    job, event = read_lorajob(lorajob()), Event("Normal", "Training", "Pod a trains")
    name = build_event(job, 1, event, START)["metadata"]["name"]
    later = START + timedelta(hours=1)
    assert build_event(job, 1, event._replace(message="Pod b trains"), later)["metadata"]["name"] == name
    assert build_event(job, 2, event, START)["metadata"]["name"] != name
    assert build_event(job, 1, event._replace(salt="1-0"), START)["metadata"]["name"] != name
