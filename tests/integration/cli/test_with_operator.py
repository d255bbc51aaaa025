"""The commands beside a running operator: they read what it really writes, and explain in its own words."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from integration.cli.conftest import Cli
from support.apiserver import ApiServer
from support.objects import Objects
from support.operator_process import Operator
from support.samples import DIGEST, lorajob
from support.wait import wait_for


@pytest.fixture
def operator(server: ApiServer, cluster: Objects, tmp_path: Path) -> Iterator[Operator]:
    """Return a running operator that serves the test's namespace."""
    running = Operator(server, cluster.namespace, tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait(timeout=10)


def watching(cluster: Objects, *arguments: str) -> "subprocess.Popen[str]":
    """Start a command as a user does, as a process of its own."""
    place = ["-n", cluster.namespace, "--kubeconfig", str(cluster.server.kubeconfig)]
    command = [sys.executable, "-W", "ignore", "-m", "lora_cli.main", *place, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_job_is_submitted_and_watched_to_its_end(
    operator: Operator, cluster: Objects, cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(lorajob("bot")))
    with watching(cluster, "submit", "-f", str(path), "--watch") as process:
        cluster.run_to_success("bot")
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"lorajob/bot created in namespace {cluster.namespace}"
    assert lines[-1] == f"digest   {DIGEST}"
    assert "bot  Succeeded  step 118/118" in out
    why = cli("why", "lorajob/bot")
    assert (why.code, "Run 1 has succeeded: the adapter is at s3://models/prefix" in why.out) == (0, True)
    wait_for("the LoRAAdapter is looked at", lambda: "NoPods" in cli("why", "la/bot").out)
    assert cli("adapters").out.splitlines()[1].split()[:3] == ["bot", "bot", "s3://models/base"]


def test_a_secret_that_is_missing_is_explained_in_the_operators_words(
    operator: Operator, cluster: Objects, cli: Cli
) -> None:
    cluster.create(lorajob("bot", storage={"credentialsSecretRef": {"name": "s3-keys"}}))
    pod = cluster.start_pod("bot-1-preflight", running=False)
    state = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "s3-keys" not found'}}
    cluster.set_pod_state(pod["metadata"]["name"], "Pending", state)
    cluster.wait_for_condition("bot", "Stalled", "True")
    said = cli("why", "bot")
    assert said.code == 1
    assert 'The job waits for you: Secret "s3-keys" does not exist (SecretNotFound).' in said.out
    assert 'What to do: create Secret "s3-keys" with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY' in said.out
