"""The operator is killed at every write of the main path, just before it and just after: the job ends as if it had not.

The writes are counted in an undisturbed run first, so a write that is added later is killed too.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.apiserver import ApiServer
from support.objects import Objects
from support.operator_process import Operator
from support.samples import DIGEST, PREFLIGHT_DONE, TRAIN_DONE, lorajob
from support.wait import wait_for
from support.write_gate import WriteGate

EXPECTED_WRITES = 11
"""Two Jobs, four statuses, three events, the LoRAAdapter and its status. A new one needs a reason."""
TIMES = frozenset({"lastTransitionTime", "startTime", "completionTime"})


@pytest.fixture(scope="module")
def gate(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WriteGate]:
    """Return the way to the API server on which the operator is killed."""
    with WriteGate(server, tmp_path_factory.mktemp("gate")) as running:
        yield running


class MainPath:
    """One job from its LoRAJob to its LoRAAdapter, with an operator that may be killed on the way."""

    def __init__(self, cluster: Objects, operator: Operator, name: str) -> None:
        self.cluster, self.operator, self.name = cluster, operator, name

    def play(self) -> dict[str, Any]:
        """Play it, and return what came of it, without what differs from run to run."""
        cluster, name = self.cluster, self.name
        cluster.create(lorajob(name))
        for stage, words in (("preflight", PREFLIGHT_DONE), ("train", TRAIN_DONE)):
            job = f"{name}-1-{stage}"
            self._until(f"Job {job}", lambda job=job: cluster.get("Job", job))
            self._until("its first status", lambda: self._status().get("run"))
            pod = cluster.start_pod(job)
            if stage == "train":
                self._until("Training", lambda: self._status().get("reason") == "Training")
            cluster.end_pod(pod["metadata"]["name"], 0, words)
            cluster.complete_job(job)
        self._until("Succeeded", lambda: self._status().get("phase") == "Succeeded")
        self._until("the LoRAAdapter", lambda: (cluster.get("LoRAAdapter", name) or {}).get("status"))
        return self._outcome()

    def _until(self, what: str, look: Any) -> None:
        """Wait for something, and give the job another operator whenever the last one was killed."""

        def alive() -> Any:
            if self.operator.process.poll() is not None:
                self.operator.restart()
            return look()

        wait_for(f"{self.name}: {what}", alive, seconds=40, state=self._status)

    def _status(self) -> dict[str, Any]:
        return (self.cluster.get("LoRAJob", self.name) or {}).get("status") or {}

    def _outcome(self) -> dict[str, Any]:
        jobs = [each for each in self.cluster.list("Job") if each["metadata"]["name"].startswith(f"{self.name}-")]
        adapters = [each for each in self.cluster.list("LoRAAdapter") if each["metadata"]["name"] == self.name]
        return {
            "jobs": sorted(each["metadata"]["name"].removeprefix(self.name) for each in jobs),
            "adapters": [each["spec"]["source"]["digest"] for each in adapters],
            "status": _without_times(self._status(), self.name),
        }


def _without_times(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        left_out = TIMES | {"job", "newest", "conditions"}
        plain = {key: _without_times(each, name) for key, each in value.items() if key not in left_out}
        conditions = {each["type"]: (each["status"], each["reason"]) for each in value.get("conditions", [])}
        return plain | ({"conditions": conditions} if conditions else {})
    if isinstance(value, list):
        return [_without_times(each, name) for each in value]
    return value.replace(name, "NAME") if isinstance(value, str) else value


@pytest.fixture
def gated(cluster: Objects, gate: WriteGate, server: ApiServer, tmp_path: Path) -> Iterator[Operator]:
    """Return an operator that goes through the gate."""
    gate.counts = lambda path: f"/namespaces/{cluster.namespace}/" in path
    running = Operator(server, cluster.namespace, tmp_path, kubeconfig=gate.kubeconfig)
    yield running
    running.process.kill()
    running.process.wait(timeout=10)


def test_killed_at_every_write_of_the_main_path(cluster: Objects, gate: WriteGate, gated: Operator) -> None:
    gate.writes.clear()
    undisturbed = MainPath(cluster, gated, "undisturbed").play()
    wait_for("the last event", lambda: len(gate.writes) >= EXPECTED_WRITES)
    writes = [each.replace("undisturbed", "NAME") for each in gate.writes]
    assert len(writes) == EXPECTED_WRITES, writes
    assert undisturbed["jobs"] == ["-1-preflight", "-1-train"]
    assert undisturbed["adapters"] == [DIGEST]

    for number in range(1, EXPECTED_WRITES + 1):
        for after in (False, True):
            name = f"{'after' if after else 'before'}-{number}"
            gate.arm(number, after=after, kill=gated.shoot)
            outcome = MainPath(cluster, gated, name).play()
            assert gate.shot is None or number == EXPECTED_WRITES, f"{name}: {writes[number - 1]} never came"
            assert outcome == undisturbed, f"killed {name} of {writes[number - 1]}"
            gate.shot = None
