"""A real API server, accounts with the rights that the manifests give, and the dashboard as a process of its own."""

import itertools
import json
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from generate.dashboard import NAME, Dashboard, dashboard_objects
from support.apiserver import ApiServer, api_server, free_port
from support.objects import Objects
from support.wait import wait_for

_numbers = itertools.count(1)
SYSTEM = "lora-system"


@dataclass
class Running:
    """A running dashboard."""

    process: subprocess.Popen[bytes]
    port: int
    health_port: int
    log: Path
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, token: str = "") -> tuple[int, Any]:
        """Return the status and the JSON of an answer."""
        headers = self.headers | ({"Authorization": f"Bearer {token}"} if token else {})
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def names(self, path: str, token: str = "") -> list[str]:
        """Return the namespaces and names of a list."""
        _, answer = self.get(path, token)
        return [f"{each['namespace']}/{each['name']}" for each in answer.get("rows", [])]

    def is_ready(self) -> bool:
        """Return whether it can answer. Fails if it has ended."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


Start = Callable[..., Running]


@pytest.fixture(scope="session")
def server() -> Iterator[ApiServer]:
    """Return a running API server with the CRDs."""
    with api_server() as running:
        _apply(running, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
        yield running


def make_namespace(server: ApiServer) -> Objects:
    """Return the objects of a new namespace."""
    objects = Objects(server, f"team-{next(_numbers)}-{secrets.token_hex(3)}")
    objects.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": objects.namespace}})
    return objects


@pytest.fixture
def cluster(server: ApiServer) -> Iterator[Objects]:
    """Return the objects of a namespace of the test's own."""
    yield from _lent(server)


@pytest.fixture
def other(server: ApiServer) -> Iterator[Objects]:
    """Return the objects of another namespace."""
    yield from _lent(server)


def _lent(server: ApiServer) -> Iterator[Objects]:
    objects = make_namespace(server)
    yield objects
    server.run_kubectl("delete", "lorajobs,loraadapters", "--all", "-n", objects.namespace, "--wait=false")


@pytest.fixture
def start(server: ApiServer, tmp_path: Path) -> Iterator[Start]:
    """Return what starts a dashboard with the rights that its manifest gives it."""
    running: list[Running] = []

    def begin(wanted: Dashboard = Dashboard()) -> Running:  # noqa: B008 - it is frozen
        objects = dashboard_objects(wanted)
        _apply(server, *(each for each in objects if each["kind"] in _RIGHTS))
        token = make_token(server, SYSTEM, NAME)
        ports = free_port(), free_port()
        log = tmp_path / f"dashboard-{len(running)}.log"
        arguments = next(each for each in objects if each["kind"] == "Deployment")["spec"]["template"]["spec"]
        command = [sys.executable, "-m", "lora_operator.dashboard.main", *arguments["containers"][0]["args"]]
        command += ["--listen=127.0.0.1", f"--port={ports[0]}", f"--health-port={ports[1]}", "--log-level=debug"]
        environment = dict(os.environ) | {"KUBECONFIG": str(_kubeconfig(server, token, tmp_path))}
        with log.open("wb") as stream:
            process = subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        running.append(Running(process, *ports, log))
        wait_for("a ready dashboard", running[-1].is_ready, state=log.read_text)
        return running[-1]

    yield begin
    for each in running:
        each.process.kill()
        each.process.wait(timeout=10)
    server.run_kubectl("delete", "clusterrole,clusterrolebinding", NAME, "--ignore-not-found")
    server.run_kubectl("delete", "role,rolebinding", "-A", "-l", "app.kubernetes.io/component=dashboard")


_RIGHTS = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}


def make_token(server: ApiServer, namespace: str, account: str) -> str:
    """Return a token of a ServiceAccount that exists."""
    made = server.run_kubectl("create", "token", account, "-n", namespace)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def make_viewer(server: ApiServer, namespace: str) -> str:
    """Return the token of somebody who may read the jobs and adapters of one namespace, and nothing else."""
    name = f"viewer-{secrets.token_hex(3)}"
    group = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": ["lora-operator.io"], "resources": ["lorajobs", "loraadapters"], "verbs": ["get", "list"]}]
    metadata = {"name": name, "namespace": namespace}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    reference = {"apiGroup": group, "kind": "Role", "name": name}
    _apply(
        server,
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": reference,
            "subjects": [subject],
        },
    )
    return make_token(server, namespace, name)


@pytest.fixture
def viewer(server: ApiServer) -> Callable[[str], str]:
    """Return what makes somebody who may read one namespace."""
    return lambda namespace: make_viewer(server, namespace)


def _apply(server: ApiServer, *objects: dict[str, Any]) -> None:
    done = server.run_kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))
    assert done.returncode == 0, done.stderr


def _kubeconfig(server: ApiServer, token: str, folder: Path) -> Path:
    """Return the file of the test with another user in it."""
    document = yaml.safe_load(server.kubeconfig.read_text())
    for each in document["users"]:
        each["user"] = {"token": token}
    path = folder / f"kubeconfig-{secrets.token_hex(3)}"
    path.write_text(yaml.safe_dump(document))
    return path
