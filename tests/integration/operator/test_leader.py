"""Two replicas and one Lease: of every way to lose a leader, the other one takes over, and nothing is made twice."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.apiserver import ApiServer
from support.faulty_proxy import FaultyProxy
from support.objects import Document, Objects
from support.operator_process import Operator
from support.samples import lorajob
from support.wait import wait_for

pytestmark = pytest.mark.skipif("LORA_TEST_KUBECONFIG" in os.environ, reason="needs an API server behind a proxy")

JOBS = 20
TAKEOVER_SECONDS = 20
"""A Lease lasts 15 s, and is looked at every 2.4 s at the most."""


class Replicas:
    """Two operators of one namespace, the first of which leads; each has its own way to the API server."""

    def __init__(self, server: ApiServer, namespace: str, folder: Path) -> None:
        self._port = int(server.url.rsplit(":", 1)[1])
        self.proxies = [FaultyProxy(self._port), FaultyProxy(self._port)]
        self._start = lambda name, proxy: Operator(server, namespace, folder, name=name, elected=True, port=proxy.port)
        self.leader = self._start("one", self.proxies[0])
        wait_for("the first one leads", self.leader.leads)
        self.standby = self._start("two", self.proxies[1])
        wait_for("the second one is ready", self.standby.is_ready)

    def end(self) -> None:
        """End both, whatever state they are in."""
        for each in (self.leader, self.standby):
            if each.process.poll() is None:
                each.process.send_signal(signal.SIGKILL)
                each.process.wait(timeout=10)
        for proxy in self.proxies:
            proxy.close()


@pytest.fixture
def replicas(server: ApiServer, cluster: Objects, tmp_path: Path) -> Iterator[Replicas]:
    """Return a leader and a standby."""
    running = Replicas(server, cluster.namespace, tmp_path)
    yield running
    running.end()


def lease(cluster: Objects) -> Document:
    """Return what the Lease says."""
    found = cluster.server.client().resources.get(api_version="coordination.k8s.io/v1", kind="Lease")
    spec: Document = found.get(name="lora-operator", namespace=cluster.namespace).to_dict()["spec"]
    return spec


def holder(cluster: Objects) -> str:
    """Return who holds the Lease, without the random part of the name."""
    return (lease(cluster).get("holderIdentity") or "").split("_")[0]


def preflights(cluster: Objects) -> list[str]:
    """Return the names of all Jobs."""
    return sorted(each["metadata"]["name"] for each in cluster.list("Job"))


def versions(cluster: Objects) -> dict[str, str]:
    """Return the resource versions of everything the operator writes but the Lease."""
    kinds = ("LoRAJob", "LoRAAdapter", "Job", "Event")
    listed = [each for kind in kinds for each in cluster.list(kind)]
    return {each["metadata"]["uid"]: each["metadata"]["resourceVersion"] for each in listed}


def test_a_standby_is_healthy_and_does_nothing(cluster: Objects, replicas: Replicas) -> None:
    assert replicas.leader.health()["role"] == "leader"
    assert replicas.standby.health()["role"] == "standby"
    cluster.create(lorajob())
    cluster.wait("Job", "support-bot-1-preflight")
    wait_for("its pass has ended", lambda: replicas.leader.passes() > 0)
    assert replicas.standby.passes() == 0
    assert replicas.standby.is_healthy()
    assert holder(cluster) == "one"


def test_a_killed_leader_is_followed_and_nothing_is_made_twice(
    cluster: Objects, replicas: Replicas, record_property: Callable[[str, object], None]
) -> None:
    names = [f"job-{number:02d}" for number in range(JOBS)]
    for name in names:
        cluster.create(lorajob(name))
        if name == names[JOBS // 2]:
            wait_for("the first Job", lambda: cluster.list("Job"))
            replicas.leader.kill()
            killed = time.monotonic()
    assert len(cluster.list("Job")) < JOBS, "it was killed in the middle"
    expected = [f"{name}-1-preflight" for name in names]
    wait_for("the second one holds the Lease", lambda: holder(cluster) == "two", seconds=TAKEOVER_SECONDS)
    wait_for("all Jobs", lambda: preflights(cluster) == expected, seconds=killed + TAKEOVER_SECONDS - time.monotonic())
    record_property("takeover_seconds", round(time.monotonic() - killed, 1))

    for name in names:
        cluster.wait_for_condition(name, "PreflightPassed", "Unknown")
    told = [(each["involvedObject"]["name"], each["reason"]) for each in cluster.list("Event")]
    assert len(told) == len(set(told)), "no event twice"
    assert preflights(cluster) == expected
    assert lease(cluster)["leaseTransitions"] == 1


def test_a_frozen_leader_ends_when_it_wakes_up_and_writes_nothing(cluster: Objects, replicas: Replicas) -> None:
    replicas.leader.freeze()
    wait_for("the second one leads", replicas.standby.leads, seconds=TAKEOVER_SECONDS)
    replicas.standby.freeze()  # so whoever writes now is the first one
    cluster.create(lorajob())
    before = versions(cluster)
    replicas.leader.thaw()
    assert replicas.leader.process.wait(timeout=10) == 1
    assert "leads no more" in replicas.leader.log.read_text()
    assert versions(cluster) == before
    assert holder(cluster) == "two"

    replicas.standby.thaw()  # within its renew deadline or not: if it ends, it is started again
    if not _goes_on(replicas.standby):
        replicas.standby.restart()
    cluster.wait("Job", "support-bot-1-preflight", seconds=TAKEOVER_SECONDS + 10)


def _goes_on(operator: Operator) -> bool:
    wait_for("it renews, or ends", lambda: operator.process.poll() is not None or operator.leads())
    return operator.process.poll() is None


def test_a_leader_that_is_stopped_hands_over_at_once(cluster: Objects, replicas: Replicas) -> None:
    replicas.leader.process.send_signal(signal.SIGTERM)
    wait_for("the second one holds the Lease", lambda: holder(cluster) == "two", seconds=3)
    cluster.create(lorajob())
    cluster.wait("Job", "support-bot-1-preflight", seconds=10)
    assert replicas.leader.process.wait(timeout=15) == 0


def test_a_leader_without_api_server_steps_down_and_all_heals(cluster: Objects, replicas: Replicas) -> None:
    cut_off = time.monotonic()
    replicas.proxies[0].block()
    assert replicas.leader.process.wait(timeout=15) == 1
    assert time.monotonic() - cut_off < 15, "it ends before the Lease does"
    wait_for("the second one leads", replicas.standby.leads, seconds=TAKEOVER_SECONDS)
    replicas.leader.restart()  # as the kubelet does
    wait_for("it waits for the API server", lambda: replicas.leader.health().get("role") == "standby")
    assert replicas.leader.is_healthy()
    assert not replicas.leader.is_ready()
    cluster.create(lorajob())
    cluster.wait("Job", "support-bot-1-preflight")
    replicas.proxies[0].unblock()
    wait_for("it is ready to follow", replicas.leader.is_ready)
    assert holder(cluster) == "two"


def test_both_without_api_server_for_half_a_minute(cluster: Objects, replicas: Replicas) -> None:
    for proxy in replicas.proxies:
        proxy.refuse()
    cut_off = time.monotonic()
    assert replicas.leader.process.wait(timeout=15) == 1
    cluster.create(lorajob())
    replicas.leader.restart()
    wait_for("half a minute", lambda: time.monotonic() - cut_off > 30, seconds=40)  # how long the fault lasts
    assert replicas.standby.is_healthy(), "a standby waits, however long"
    assert replicas.leader.is_healthy()
    for proxy in replicas.proxies:
        proxy.allow()
    cluster.wait("Job", "support-bot-1-preflight", seconds=TAKEOVER_SECONDS + 10)
    wait_for("both are healthy", lambda: replicas.leader.is_healthy() and replicas.standby.is_healthy())
    assert sorted([replicas.leader.health()["role"], replicas.standby.health()["role"]]) == ["leader", "standby"]
