"""Whatever happens between the operator and the API server, the state is right within a minute afterwards."""

import json
import os
import secrets
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.apiserver import ApiServer, api_server, wait_until_ready
from support.faulty_proxy import FaultyProxy
from support.objects import Objects
from support.operator_process import Operator
from support.samples import PREFLIGHT_DONE, lorajob
from support.wait import wait_for

pytestmark = pytest.mark.skipif("LORA_TEST_KUBECONFIG" in os.environ, reason="kills its API server")

PREFLIGHT, TRAIN = "support-bot-1-preflight", "support-bot-1-train"
CONVERGED_SECONDS = 60


class Setting:
    """An API server of this file's own, and an operator behind a proxy."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.server = server
        namespace = f"faults-{secrets.token_hex(3)}"
        self.cluster = Objects(server, namespace)
        self.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        self.proxy = FaultyProxy(int(server.url.rsplit(":", 1)[1]))
        self.operator = Operator(server, namespace, folder, port=self.proxy.port)
        wait_for("the operator works", self.operator.leads)

    def end(self) -> None:
        """End operator and proxy."""
        if self.operator.process.poll() is None:
            self.operator.kill()
        self.proxy.close()

    def start_job(self) -> None:
        """Bring a job to its running preflight."""
        self.cluster.create(lorajob())
        self.cluster.start_pod(PREFLIGHT)

    def start_training(self) -> None:
        """Bring a job to its running training."""
        self.start_job()
        self.finish_preflight()
        self.cluster.start_pod(TRAIN)
        self.cluster.wait_for_condition("support-bot", "Running", "True")

    def finish_preflight(self) -> None:
        """Let the preflight succeed."""
        self.cluster.end_pod(f"{PREFLIGHT}-1", 0, PREFLIGHT_DONE)
        self.cluster.complete_job(PREFLIGHT)

    def restart_api_server(self) -> None:
        """Kill the API server, and start it again on the same port."""
        assert self.server.process is not None
        self.server.process.kill()
        self.server.process.start()
        wait_until_ready(self.server)

    def compact(self) -> None:
        """Throw away etcd's history, so that no watch can go on where it was."""
        revision = self._etcd("/v3/maintenance/status", {})["header"]["revision"]
        self._etcd("/v3/kv/compaction", {"revision": revision, "physical": True})

    def _etcd(self, path: str, body: dict[str, object]) -> dict[str, dict[str, str]]:
        request = urllib.request.Request(self.server.etcd + path, json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, dict[str, str]] = json.loads(answer.read())
        return found


@pytest.fixture(scope="module")
def own_server() -> Iterator[ApiServer]:
    """Return an API server that may be killed."""
    with api_server() as running:
        yield running


@pytest.fixture
def setting(own_server: ApiServer, tmp_path: Path) -> Iterator[Setting]:
    """Return an operator that works."""
    running = Setting(own_server, tmp_path)
    yield running
    running.end()


def test_connections_that_are_cut_again_and_again(setting: Setting) -> None:
    setting.start_job()
    for _ in range(20):
        setting.proxy.cut()
    setting.finish_preflight()
    for _ in range(20):
        setting.proxy.cut()
    setting.cluster.wait("Job", TRAIN, seconds=CONVERGED_SECONDS)
    assert setting.operator.is_healthy()


def test_a_network_that_swallows_everything_for_twenty_seconds(setting: Setting) -> None:
    setting.start_job()
    setting.proxy.block()
    began = time.monotonic()
    setting.finish_preflight()
    wait_for("twenty seconds", lambda: time.monotonic() - began > 20)  # how long the fault lasts
    assert setting.operator.is_healthy(), "no reason for a restart"
    setting.proxy.unblock()
    setting.cluster.wait("Job", TRAIN, seconds=CONVERGED_SECONDS)


def test_an_api_server_that_is_killed_and_comes_back(setting: Setting) -> None:
    setting.start_job()
    setting.restart_api_server()
    setting.finish_preflight()
    setting.cluster.wait("Job", TRAIN, seconds=CONVERGED_SECONDS)
    assert setting.operator.process.poll() is None, "a restart of the API server is none of the operator"
    assert setting.operator.is_healthy()


Disturbance = Callable[[Setting], None]


def _delete_pod(setting: Setting) -> None:
    setting.cluster.delete("Pod", f"{TRAIN}-1")


def _delete_job(setting: Setting) -> None:
    setting.cluster.delete("Pod", f"{TRAIN}-1")
    setting.cluster.delete("Job", TRAIN)


def _replace_lorajob(setting: Setting) -> None:
    """Delete the LoRAJob and what the garbage collector takes with it, and make another of the same name."""
    setting.cluster.delete("LoRAJob", "support-bot")
    for kind in ("Pod", "Job", "ConfigMap"):
        for each in setting.cluster.list(kind):
            if each["metadata"].get("labels", {}).get("lora-operator.io/job"):
                setting.cluster.delete(kind, each["metadata"]["name"])
    setting.cluster.create(lorajob())


def _while_down(setting: Setting, disturb: Disturbance) -> None:
    setting.operator.kill()
    disturb(setting)
    setting.operator.restart()


def _while_cut_off(setting: Setting, disturb: Disturbance) -> None:
    setting.proxy.refuse()
    disturb(setting)
    setting.proxy.allow()


def _while_history_is_lost(setting: Setting, disturb: Disturbance) -> None:
    """The operator's watches get 410, and a list in which what was deleted is simply not there."""
    setting.proxy.refuse()
    disturb(setting)
    setting.compact()
    setting.restart_api_server()
    setting.proxy.allow()


@pytest.mark.parametrize("blindness", [_while_down, _while_cut_off, _while_history_is_lost])
@pytest.mark.parametrize("disturb", [_delete_pod, _delete_job, _replace_lorajob])
def test_what_was_deleted_unseen_is_noticed(
    setting: Setting,
    blindness: Callable[[Setting, Disturbance], None],
    disturb: Disturbance,
    record_property: Callable[[str, object], None],
) -> None:
    setting.start_training()
    name = PREFLIGHT if disturb is _replace_lorajob else TRAIN
    old = setting.cluster.wait("Job", name)["metadata"]["uid"]
    blindness(setting, disturb)
    began = time.monotonic()

    if disturb is _delete_pod:
        setting.cluster.wait_for_condition("support-bot", "Running", "False", seconds=CONVERGED_SECONDS)
    else:
        wait_for(f"another Job {name}", lambda: _uid(setting, name) not in ("", old), seconds=CONVERGED_SECONDS)
    record_property("converged_seconds", round(time.monotonic() - began, 1))
    if blindness is _while_history_is_lost:
        # Here the list of LoRAJobs woke the job; if only the pods had been listed anew, this would have.
        wait_for("a look at all", lambda: "events may have been missed" in setting.operator.log.read_text())


def _uid(setting: Setting, job: str) -> str:
    found = setting.cluster.get("Job", job)
    return str(found["metadata"]["uid"]) if found else ""
