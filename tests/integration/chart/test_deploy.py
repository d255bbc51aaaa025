"""`make deploy` where it does not go well: interrupted, killed, no cluster, an operator that does not become ready."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.apiserver import api_server
from support.helm import CHART, NAMESPACE, RELEASE, Helm
from support.tools import ROOT
from support.wait import wait_for

pytestmark = pytest.mark.timeout(1500)
"""The first test may build Helm."""
IMAGES = {f"LORA_{part}_IMAGE": f"lora-{part.lower()}:test" for part in ("OPERATOR", "TRAINER", "AGENT")}
INTERRUPTED_HELM = """#!/bin/sh
trap 'sleep 1; echo failed > "$STATE"; exit 1' INT
cat > /dev/null
echo waiting > "$STATE"
while :; do sleep 0.1; done
"""
"""Needs a second after Ctrl-C to write down how the release is."""
UNREADY_HELM = """#!/bin/sh
case "$1" in
  status) echo '{"version": 2, "info": {"status": "failed"}}';;
  *) cat > /dev/null; echo 'Error: context deadline exceeded' >&2; exit 1;;
esac
"""
KUBECTL = """#!/bin/sh
case "$*" in
  *" logs "*) echo '[pod/lora-operator-1/operator] no such flag';;
  *" pods"*) echo 'lora-operator-1 0/1 CrashLoopBackOff';;
esac
"""


def program(folder: Path, name: str, text: str) -> Path:
    """Return a program that plays another."""
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def deploy(helm: str, path: str, **environment: str) -> subprocess.Popen[str]:
    """Start it, in a process group of its own as a terminal has one."""
    return subprocess.Popen(
        [sys.executable, "-m", "deploy", helm],
        env={**os.environ, "PYTHONPATH": str(ROOT / "hack"), "PATH": f"{path}:{os.environ['PATH']}"}
        | IMAGES
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_an_interrupt_lets_helm_write_down_how_the_release_is(tmp_path: Path) -> None:
    program(tmp_path, "kubectl", KUBECTL)
    state = tmp_path / "state"
    running = deploy(str(program(tmp_path, "helm", INTERRUPTED_HELM)), str(tmp_path), STATE=str(state))
    wait_for("Helm at work", state.exists)
    os.killpg(running.pid, signal.SIGINT)
    said, _ = running.communicate(timeout=30)
    assert (running.returncode, state.read_text().strip()) == (130, "failed"), said
    assert "Traceback" not in said


def test_an_operator_that_is_not_ready_is_shown_with_its_last_words(tmp_path: Path) -> None:
    program(tmp_path, "kubectl", KUBECTL)
    running = deploy(str(program(tmp_path, "helm", UNREADY_HELM)), str(tmp_path))
    said, _ = running.communicate(timeout=30)
    assert running.returncode == 1
    for each in ("context deadline exceeded", "CrashLoopBackOff", "no such flag", "run it again"):
        assert each in said


def test_no_cluster_is_one_line(tmp_path: Path) -> None:
    refused = "#!/bin/sh\necho 'The connection to the server was refused' >&2\nexit 1\n"
    program(tmp_path, "kubectl", refused)
    running = deploy("helm", str(tmp_path))
    said, _ = running.communicate(timeout=30)
    assert (running.returncode, len(said.splitlines())) == (1, 1)
    assert "The connection to the server was refused" in said


def test_a_killed_helm_leaves_a_way_out_that_works(helm: Helm) -> None:
    """There are no nodes, so a Helm that waits goes on waiting, until it is killed."""
    with api_server() as server:
        server.run_kubectl("delete", "clusterrole,clusterrolebinding", "lora-operator")
        server.run_kubectl("create", "namespace", NAMESPACE)
        where = ("--namespace", NAMESPACE, "--kubeconfig", str(server.kubeconfig))
        install = (helm.program, "upgrade", "--install", RELEASE, str(CHART), *where, "--take-ownership")
        waiting = subprocess.Popen([*install, "--force-conflicts", "--wait"], stdout=subprocess.DEVNULL)
        wait_for("a deployment", lambda: server.run_kubectl("get", "deploy", "-n", NAMESPACE, "-o", "name").stdout)
        waiting.kill()
        waiting.wait(timeout=10)

        tools = str(Path(server.kubectl).parent)
        running = deploy(helm.program, tools, KUBECONFIG=str(server.kubeconfig))
        said, _ = running.communicate(timeout=60)
        assert running.returncode == 1
        assert "another operation" in said
        assert "pending-install" in said
        way_out = said.strip().rpartition("try again: ")[2]
        assert f"{helm.program} uninstall {RELEASE}" in way_out
        subprocess.run(["sh", "-c", way_out], check=True, timeout=60)
        helm(*install[1:], "--force-conflicts", "--wait=false")
        assert "deployed" in helm("status", RELEASE, *where)
