"""Two pods that train together, as two launchers on this machine: they meet, lose each other, and meet again."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.trainer.conftest import keys
from lora_api.exit_codes import ExitCode
from lora_api.messages import TerminationMessage
from support.s3server import free_port
from support.wait import wait_for

STEPS = 12
DEADLINE_SECONDS = 240
"""Of the machine, which may be busy; the pods themselves take some seconds."""


@dataclass
class Pod:
    """One launcher with its workers; they end together, as the processes of a container do."""

    process: subprocess.Popen
    log: Path
    words: Path

    def lines(self):
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def says(self, message):
        return any(line["message"].startswith(message) for line in self.lines())

    def end(self):
        """Return exit code and last words, in time."""
        code = self.process.wait(DEADLINE_SECONDS)
        return code, TerminationMessage.model_validate_json(self.words.read_text())

    def kill(self):
        """Do what the end of a container does: all of its processes at once."""
        for each in [*children_of(self.process.pid), self.process.pid]:
            os.kill(each, signal.SIGKILL)
        self.process.wait(DEADLINE_SECONDS)


def children_of(pid):
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def start(job, s3, tmp_path):
    """Start pod `node` of the two of a job."""
    port, pods = free_port(), []

    def run(name, node, *, address="localhost"):
        path = job(
            name,
            resources={"gpus": 0, "nodes": 2},
            training={"maxSteps": STEPS, "effectiveBatchSize": 4, "learningRate": 0.01, "checkpoint": {"every": 2}},
        )
        folder = tmp_path / f"{name}-{node}-{len(pods)}"
        folder.mkdir()
        (folder / "words").touch()
        environment = os.environ | {
            "LORA_SCRATCH": str(folder / "scratch"),
            "LORA_TERMINATION_LOG": str(folder / "words"),
            "LORA_MASTER_ADDRESS": address,
            "LORA_RENDEZVOUS_PORT": str(port),
            "JOB_COMPLETION_INDEX": str(node),
        }
        command = [sys.executable, "-m", "lora_trainer.cli", "train", "--job", str(path)]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        pods.append(Pod(process, folder / "log", folder / "words"))
        return pods[-1]

    yield run
    for pod in pods:
        if pod.process.poll() is None:
            pod.kill()


def checkpoints(s3, bucket, name):
    found = keys(s3, bucket, f"out/team-a/{name}/runs/1/checkpoints/")
    return sorted({key.split("/")[-2] for key in found if key.endswith("manifest.json")})


def test_two_pods_train_one_adapter_and_the_same_after_one_of_them_has_gone(s3, bucket, start):
    second = start("plain", 1)
    wait_for("the second pod waits for the first", lambda: second.says("waiting for the other pods"))
    first = start("plain", 0)
    (code, usual), (other_code, _) = first.end(), second.end()
    assert (code, other_code) == (ExitCode.DONE, ExitCode.DONE), (usual, second.log.read_text()[-2000:])

    first, second = start("disturbed", 0), start("disturbed", 1)
    wait_for("a checkpoint", lambda: checkpoints(s3, bucket, "disturbed"), seconds=DEADLINE_SECONDS)
    second.kill()
    code, words = first.end()
    assert (code, words.reason) == (ExitCode.INTERRUPTED, "Interrupted")
    assert words.message == "another pod of this run has gone"
    newest = checkpoints(s3, bucket, "disturbed")[-1]
    assert (f"step-{words.checkpoint.step:08d}", words.checkpoint.uri.rpartition("/")[2]) == (newest, newest)
    assert words.hint == f"the checkpoint of step {words.checkpoint.step} is saved; the next attempt goes on from it"

    first, second = start("disturbed", 0), start("disturbed", 1)
    (code, words), (other_code, _) = first.end(), second.end()
    assert (code, other_code) == (ExitCode.DONE, ExitCode.DONE)
    assert first.says("going on from a checkpoint")
    assert [each.step for each in words.loss_curve if each.loss is not None] == list(range(1, STEPS + 1))
    assert words.adapter.digest == usual.adapter.digest
