"""A real kube-apiserver with etcd for tests, without nodes and controllers: the tests play those.

Set LORA_TEST_KUBECONFIG to use a cluster of your own instead. Else the binaries are taken from LORA_DEVCLUSTER_BIN, or
from where the development cluster keeps them.
"""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes
import yaml

from lora_api.crd import all_crds
from lora_operator.cluster.permissions import RULES
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

    def client(self) -> kubernetes.dynamic.DynamicClient:
        """Return a client that knows every kind of the server."""
        return kubernetes.dynamic.DynamicClient(
            kubernetes.config.new_client_from_config(config_file=str(self.kubeconfig))
        )

    def run_kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl, and return what it said."""
        command = [self.kubectl, "--kubeconfig", str(self.kubeconfig), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


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
    processes: list[subprocess.Popen[bytes]] = []
    try:
        etcd = _start_etcd(binaries, folder, processes)
        server = _start_api_server(binaries, folder, etcd, processes)
        _wait_until_ready(server, processes)
        yield server
    finally:
        for process in reversed(processes):
            process.kill()  # nothing of it is to be kept, and an orderly end takes a quarter of a minute
            process.wait(timeout=10)


def _start_etcd(binaries: Path, folder: Path, processes: list[subprocess.Popen[bytes]]) -> str:
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
    processes.append(_spawn(command, folder / "etcd.log"))
    return client


def _start_api_server(binaries: Path, folder: Path, etcd: str, processes: list[subprocess.Popen[bytes]]) -> ApiServer:
    port, token, operator = free_port(), secrets.token_hex(16), secrets.token_hex(16)
    tokens = f"{token},tester,tester,system:masters\n{operator},{_OPERATOR_USER},{_OPERATOR_USER}\n"
    (folder / "tokens.csv").write_text(tokens)
    key = folder / "service-account.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
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
    ]
    processes.append(_spawn(command, folder / "kube-apiserver.log"))
    administrator, limited = folder / "kubeconfig", folder / "operator-kubeconfig"
    administrator.write_text(yaml.safe_dump(_kubeconfig(port, token)))
    limited.write_text(yaml.safe_dump(_kubeconfig(port, operator)))
    return ApiServer(administrator, limited, str(binaries / "kubectl"))


def _spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=log.open("wb"), stderr=subprocess.STDOUT)


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


def _wait_until_ready(server: ApiServer, processes: list[subprocess.Popen[bytes]]) -> None:
    def ready() -> bool:
        dead = [process.args for process in processes if process.poll() is not None]
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
        "rules": [*RULES, proxy],
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
