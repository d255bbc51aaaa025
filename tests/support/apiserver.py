"""A real kube-apiserver with etcd for tests, without nodes and controllers: the tests play those.

Set LORA_TEST_KUBECONFIG to use a cluster of your own instead. Else the binaries are taken from LORA_DEVCLUSTER_BIN, or
from where the development cluster keeps them.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes
import yaml

from lora_api.crd import all_crds
from lora_operator.cluster.permissions import OWN_NAMESPACE_RULES, RULES
from support.audit import POLICY, writes_of
from support.wait import wait_for

_OPERATOR_USER = "lora-operator"
_BINARIES = ("etcd", "kube-apiserver", "kubectl")


@dataclass(frozen=True)
class ApiServer:
    """A running API server, and the ways to talk to it."""

    kubeconfig: Path
    """Of a cluster administrator: the test."""
    operator_kubeconfig: Path
    """Of the operator, which has its ClusterRole and nothing else. With a cluster of your own it is the same file."""
    kubectl: str
    url: str = ""
    etcd: str = ""
    """URL of its etcd; empty with a cluster of your own, as the one above."""
    process: "Restartable | None" = None
    """The API server itself, for tests that have one of their own."""
    audit_log: Path | None = None
    """Every request that it was asked; none with a cluster of your own."""

    def writes_of_operator(self, namespace: str) -> list[str]:
        """Return what the operator has written in a namespace, as the server's audit log has it."""
        assert self.audit_log is not None, "a cluster of your own keeps no audit log for tests"
        return writes_of(self.audit_log, _OPERATOR_USER, namespace)

    def client(self) -> kubernetes.dynamic.DynamicClient:
        """Return a client that knows every kind of the server."""
        return kubernetes.dynamic.DynamicClient(
            kubernetes.config.new_client_from_config(config_file=str(self.kubeconfig))
        )

    def run_kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl, and return what it said."""
        command = [self.kubectl, "--kubeconfig", str(self.kubeconfig), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


class Restartable:
    """A process that a test may kill and start again as it was."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._command = command
        self._log = log
        self.running = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)

    def kill(self) -> None:
        """Kill it, and wait for its end."""
        self.running.kill()  # nothing of it is to be kept, and an orderly end takes a quarter of a minute
        self.running.wait(timeout=10)

    def start(self) -> None:
        """Start it again, on the same port."""
        self.running = self._start()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_binaries() -> Path | None:
    """Return the folder with the binaries of the control plane, or None."""
    named = os.environ.get("LORA_DEVCLUSTER_BIN")
    cache = Path.home() / ".cache" / "lora-devcluster"
    folders = [Path(named)] if named else sorted(cache.glob("*"), key=lambda each: each.stat().st_mtime, reverse=True)
    return next((each for each in folders if all((each / name).exists() for name in _BINARIES)), None)


@contextmanager
def api_server() -> Iterator[ApiServer]:
    """Yield an API server with the CRDs installed."""
    if existing := os.environ.get("LORA_TEST_KUBECONFIG"):
        server = ApiServer(Path(existing), Path(existing), _kubectl())
        install_crds(server)
        yield server
        return
    folder = Path(tempfile.mkdtemp(prefix="lora-apiserver-"))
    try:
        with _started(folder) as server:
            install_crds(server)
            _grant(server)
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _kubectl() -> str:
    folder = find_binaries()
    return str(folder / "kubectl") if folder else "kubectl"


@contextmanager
def _started(folder: Path) -> Iterator[ApiServer]:
    binaries = find_binaries()
    if binaries is None:
        raise FileNotFoundError(f"none of LORA_DEVCLUSTER_BIN and the cache holds {_BINARIES}")
    processes: list[Restartable] = []
    try:
        etcd = _start_etcd(binaries, folder, processes)
        server = _start_api_server(binaries, folder, etcd, processes)
        wait_until_ready(server, processes)
        yield server
    finally:
        for process in reversed(processes):
            process.kill()


def _start_etcd(binaries: Path, folder: Path, processes: list[Restartable]) -> str:
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    command = [
        str(binaries / "etcd"),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",  # the data need not outlive the test
    ]
    processes.append(Restartable(command, folder / "etcd.log"))
    return client


def _start_api_server(binaries: Path, folder: Path, etcd: str, processes: list[Restartable]) -> ApiServer:
    port, token, operator = free_port(), secrets.token_hex(16), secrets.token_hex(16)
    tokens = f"{token},tester,tester,system:masters\n{operator},{_OPERATOR_USER},{_OPERATOR_USER}\n"
    (folder / "tokens.csv").write_text(tokens)
    key = folder / "service-account.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    policy = folder / "audit-policy.json"
    policy.write_text(json.dumps(POLICY))
    command = [
        str(binaries / "kube-apiserver"),
        f"--etcd-servers={etcd}",
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={folder / 'certificates'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.97.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--disable-admission-plugins=ServiceAccount",  # nobody here makes a default account
        "--allow-privileged=false",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={folder / 'audit.log'}",
    ]
    processes.append(Restartable(command, folder / "kube-apiserver.log"))
    administrator, limited = folder / "kubeconfig", folder / "operator-kubeconfig"
    administrator.write_text(yaml.safe_dump(_kubeconfig(port, token)))
    limited.write_text(yaml.safe_dump(_kubeconfig(port, operator)))
    url = f"https://127.0.0.1:{port}"
    log = folder / "audit.log"
    return ApiServer(administrator, limited, str(binaries / "kubectl"), url, etcd, processes[-1], log)


def _kubeconfig(port: int, token: str) -> dict[str, Any]:
    server = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": server}],
        "users": [{"name": "tester", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "tester"}}],
        "current-context": "test",
    }


def wait_until_ready(server: ApiServer, processes: Sequence[Restartable] = ()) -> None:
    """Wait until the server answers, and its first namespace is there. Fails when a process of its own has ended."""

    def ready() -> bool:
        dead = [each.running.args for each in processes if each.running.poll() is not None]
        if dead:
            raise AssertionError(f"ended: {dead}")
        return server.run_kubectl("get", "--raw", "/readyz").returncode == 0

    wait_for("a ready API server", ready, seconds=90)
    wait_for(
        "the default namespace",
        lambda: server.run_kubectl("get", "namespace", "default").returncode == 0,
        seconds=30,
    )


def _grant(server: ApiServer) -> None:
    """Give the operator's user what its ClusterRole gives, and the way to pods that it needs outside a cluster."""
    proxy = {"apiGroups": [""], "resources": ["pods/proxy"], "verbs": ["get"]}
    group = "rbac.authorization.k8s.io"
    role = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "lora-operator"},
        "rules": [*RULES, *OWN_NAMESPACE_RULES, proxy],  # a test's Lease lies in the test's namespace
    }
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "lora-operator"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "lora-operator"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": _OPERATOR_USER}],
    }
    done = server.run_kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([role, binding]))
    assert done.returncode == 0, done.stderr


def install_crds(server: ApiServer) -> None:
    """Install the CRDs, and wait until the server knows them."""
    documents = yaml.safe_dump_all(all_crds().values())
    done = server.run_kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=documents)
    assert done.returncode == 0, done.stderr
    for crd in all_crds().values():
        name = crd["metadata"]["name"]
        waited = server.run_kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")
        assert waited.returncode == 0, waited.stderr
