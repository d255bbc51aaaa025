"""A Kubernetes without machines: etcd, API server, Job controller, scheduler, and fake nodes that play the pods.

Every program has a user of its own, so that the audit log tells them apart. The limits on requests a second of
Kubernetes' own controllers are lifted: it is not them who are measured.
"""

import json
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from bench.operator import audit
from bench.operator.binaries import module_folder, program
from bench.operator.process import Process
from bench.operator.stages import pod_stages
from bench.trainer.report import say
from support.apiserver import free_port
from support.wait import wait_for

_CONTROLLER_MANAGER = "kube-controller-manager"
_CONTROLLERS = (
    "job-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "node-lifecycle-controller",
)
"""Those without which no pod starts and nothing goes away. The others would only take time from what is measured."""
_NODE_STAGES = ("fast/node-initialize", "heartbeat-with-lease/node-heartbeat-with-lease")
_SILENT = ("system:masters", "bench:silent")
_QPS, _BURST = 2000, 4000
_SERVICE_RANGE = "10.98.0.0/16"

Document = dict[str, Any]


class Cluster:
    """A running control plane."""

    def __init__(self, folder: Path) -> None:
        """Prepare to run in an empty folder."""
        self.folder = folder
        self.port = free_port()
        self.audit = audit.AuditLog(folder / "audit.log")
        self.tokens: dict[str, str] = {}
        self._processes: list[Process] = []

    @property
    def server(self) -> str:
        """Address of the API server."""
        return f"https://127.0.0.1:{self.port}"

    def kubeconfig(self, user: str) -> Path:
        """Return the kubeconfig of a user that was named at the start."""
        return self.folder / f"{_file_name(user)}.kubeconfig"

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl as an administrator. Raises RuntimeError when it fails."""
        command = [program("kubectl"), "--kubeconfig", str(self.kubeconfig("admin")), *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments[:3])}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def apply(self, documents: list[Document]) -> None:
        """Apply objects, and wait for CRDs among them."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(documents))
        for each in documents:
            if each["kind"] == "CustomResourceDefinition":
                name = each["metadata"]["name"]
                self.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=60s")

    def check(self) -> None:
        """Raise RuntimeError if a part of it has ended."""
        for each in self._processes:
            each.check()

    @contextmanager
    def without_pods(self) -> Iterator[None]:
        """Hold the Job controller for a time, so that nobody works but the API server and who talks to it."""
        (controllers,) = (each for each in self._processes if each.name == _CONTROLLER_MANAGER)
        controllers.hold()
        try:
            yield
        finally:
            controllers.release()

    def cpu_seconds(self) -> dict[str, float]:
        """Return the processor seconds of each of its programs until now."""
        return {each.name: each.cpu_seconds() for each in self._processes}

    def start(self, users: Mapping[str, tuple[str, ...]], nodes: int) -> None:
        """Start everything. `users` are names and groups of those who come besides."""
        everyone = {
            "admin": ("system:masters",),
            **dict.fromkeys(("controllers", "scheduler", "kwok"), _SILENT),
            **users,
        }
        self._write_users(everyone)
        self._start_server()
        self._run(_CONTROLLER_MANAGER, *self._controller_manager())
        self._run("kube-scheduler", *self._scheduler())
        self._run("kwok", *self._kwok())
        self.apply([_node(number) for number in range(nodes)])
        wait_for("ready nodes", lambda: self._ready_nodes() == nodes, seconds=60, state=self._ready_nodes)

    def stop(self) -> None:
        """End everything."""
        for process in reversed(self._processes):
            process.kill()  # nothing of it is to be kept

    def _run(self, name: str, *flags: str) -> None:
        self._processes.append(Process(name, [program(name), *flags], self.folder))

    def _write_users(self, users: Mapping[str, tuple[str, ...]]) -> None:
        self.tokens = {user: secrets.token_hex(16) for user in users}
        lines = [f'{self.tokens[user]},{user},{user},"{",".join(groups)}"\n' for user, groups in users.items()]
        (self.folder / "tokens.csv").write_text("".join(lines))
        for user in users:
            self.kubeconfig(user).write_text(yaml.safe_dump(_kubeconfig(self.server, self.tokens[user])))

    def _start_server(self) -> None:
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self._run("etcd", *_etcd(self.folder, client, peer))
        self._run("kube-apiserver", *self._api_server(client))

        def ready() -> bool:
            self.check()
            try:
                return self.kubectl("get", "--raw", "/readyz") == "ok"
            except RuntimeError:
                return False

        wait_for("a ready API server", ready, seconds=120)
        say("the API server is ready")

    def _api_server(self, etcd: str) -> list[str]:
        key, policy = self.folder / "service-account.key", self.folder / "audit-policy.json"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        policy.write_text(json.dumps(audit.POLICY))
        return [
            f"--etcd-servers={etcd}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={self.folder / 'certificates'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            f"--service-cluster-ip-range={_SERVICE_RANGE}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.folder / 'audit.log'}",
            "--audit-log-maxsize=4000",  # MiB: the log must not be turned over in the middle
        ]

    def _controller_manager(self) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig('controllers')}",
            f"--service-account-private-key-file={self.folder / 'service-account.key'}",
            f"--controllers={','.join(_CONTROLLERS)}",
            f"--kube-api-qps={_QPS}",
            f"--kube-api-burst={_BURST}",
            "--concurrent-job-syncs=20",
            "--node-monitor-grace-period=10m",  # fake nodes renew their leases once a minute, and none is ever lost
            *self._own_port("controller-manager"),
        ]

    def _scheduler(self) -> list[str]:
        configuration = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": {"kubeconfig": str(self.kubeconfig("scheduler")), "qps": _QPS, "burst": _BURST},
            "leaderElection": {"leaderElect": False},
        }
        file = self.folder / "scheduler.yaml"
        file.write_text(yaml.safe_dump(configuration))
        port = [each for each in self._own_port("scheduler") if "leader" not in each]
        return [f"--config={file}", *port]

    def _own_port(self, name: str) -> list[str]:
        folder = self.folder / f"{name}-certificates"
        port = [f"--secure-port={free_port()}", "--bind-address=127.0.0.1", f"--cert-dir={folder}"]
        return [*port, "--leader-elect=false"]

    def _kwok(self) -> list[str]:
        stages = module_folder("kwok", "sigs.k8s.io/kwok") / "kustomize" / "stage" / "node"
        documents = [yaml.safe_load((stages / f"{name}.yaml").read_text()) for name in _NODE_STAGES] + pod_stages()
        file = self.folder / "kwok.yaml"
        file.write_text(yaml.safe_dump_all(documents))
        return [
            f"--config={file}",
            f"--kubeconfig={self.kubeconfig('kwok')}",
            "--manage-all-nodes=true",
            "--node-lease-duration-seconds=200",
            f"--server-address=127.0.0.1:{free_port()}",
        ]

    def _ready_nodes(self) -> int:
        path = "jsonpath={range .items[*]}{.status.conditions[?(@.type=='Ready')].status}{'\\n'}{end}"
        return self.kubectl("get", "nodes", "-o", path).split().count("True")


@contextmanager
def running(folder: Path, users: Mapping[str, tuple[str, ...]], nodes: int) -> Iterator[Cluster]:
    """Yield a running cluster, and end it."""
    cluster = Cluster(folder)
    try:
        cluster.start(users, nodes)
        yield cluster
    finally:
        cluster.stop()


def service_account(namespace: str, name: str) -> tuple[str, tuple[str, ...]]:
    """Return user and groups of a ServiceAccount, as its token has them."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    return f"system:serviceaccount:{namespace}:{name}", groups


def _etcd(folder: Path, client: str, peer: str) -> list[str]:
    return [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=warn",
        "--unsafe-no-fsync",  # the disk of the machine is not what is measured
    ]


def _file_name(user: str) -> str:
    return user.replace(":", "-")


def _kubeconfig(server: str, token: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bench", "cluster": {"server": server, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "bench", "user": {"token": token}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        "current-context": "bench",
    }


def _node(number: int) -> Document:
    room = {"cpu": "128", "memory": "2Ti", "ephemeral-storage": "100Ti", "pods": "250", "nvidia.com/gpu": "64"}
    name = f"node-{number:02d}"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": room, "capacity": room},
    }
