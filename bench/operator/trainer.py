"""Kubeflow Trainer 2.0.0 with the JobSet that it needs, as their manifests install them: two processes.

Their own webhooks are called, as in a cluster, but at an address of this machine. JobSet's leader election is off, as
ours is: nobody is there to take over.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from bench.operator.binaries import module_folder, program
from bench.operator.certificates import Certificates, make_certificates
from bench.operator.client import read, read_metrics, until
from bench.operator.cluster import Cluster, service_account
from bench.operator.contender import IMAGE, Contender, Document, Kind, condition
from bench.operator.process import Process
from bench.operator.stages import LIFE_LABEL, SHORT
from support.apiserver import free_port

_TRAINER_MODULE, _JOBSET_MODULE = "github.com/kubeflow/trainer/v2", "sigs.k8s.io/jobset"
_TRAINER, _TRAINER_NAMESPACE = "kubeflow-trainer-controller-manager", "kubeflow-system"
_JOBSET, _JOBSET_NAMESPACE = "jobset-controller-manager", "jobset-system"
_SECRETS = ((_TRAINER_NAMESPACE, "kubeflow-trainer-webhook-cert"), (_JOBSET_NAMESPACE, "jobset-webhook-server-cert"))
_TRAINER_USER, _TRAINER_GROUPS = service_account(_TRAINER_NAMESPACE, _TRAINER)
_JOBSET_USER, _JOBSET_GROUPS = service_account(_JOBSET_NAMESPACE, _JOBSET)
USERS = {_TRAINER_USER: _TRAINER_GROUPS, _JOBSET_USER: _JOBSET_GROUPS}
_NOT_INSTALLED = ("Deployment", "Secret", "Service")
_RECONCILED = "controller_runtime_reconcile_total{"
_WAITING = "workqueue_depth{"


class Trainer(Contender):
    """Both processes."""

    name = "Trainer + JobSet"
    short_name = "trainer"
    users = frozenset(USERS)
    resource = "/apis/trainer.kubeflow.org/v1alpha1/trainjobs"
    running_resource = "/apis/jobset.x-k8s.io/v1alpha2/jobsets"
    """A TrainJob of this version says nothing until it has ended."""
    left_resources = ()
    has_preflight = False

    def __init__(self, cluster: Cluster) -> None:
        """Install them."""
        self._cluster = cluster
        self.processes: Sequence[Process] = ()
        self._mounts = ExitStack()
        self._webhooks = {name: free_port() for name in (_TRAINER, _JOBSET)}
        self._health = {name: free_port() for name in (_TRAINER, _JOBSET)}
        self._metrics = {name: free_port() for name in (_TRAINER, _JOBSET)}
        self._certificates = make_certificates(
            cluster.folder,
            ("kubeflow-trainer-ca", "jobset-ca"),
            (f"{_TRAINER}.{_TRAINER_NAMESPACE}.svc", f"jobset-webhook-service.{_JOBSET_NAMESPACE}.svc"),
        )
        jobset = _render(cluster, module_folder("trainer", _JOBSET_MODULE) / "config" / "default")
        self._write_configuration(jobset)
        cluster.apply(self._installed(jobset, _JOBSET))
        cluster.apply(self._installed(_trainer_objects(cluster), _TRAINER))
        cluster.apply([_secret(namespace, name, self._certificates) for namespace, name in _SECRETS])

    async def start(self) -> None:
        """Start both, and return when they are ready and know the runtimes."""
        self._mounts.enter_context(self._certificates.mounted())
        folder = self._cluster.folder
        trainer = [
            program("trainer-controller-manager"),
            f"--metrics-bind-address=127.0.0.1:{self._metrics[_TRAINER]}",
            "--metrics-secure=false",
            f"--health-probe-bind-address=127.0.0.1:{self._health[_TRAINER]}",
            f"--webhook-server-port={self._webhooks[_TRAINER]}",
        ]
        jobset = [program("jobset"), f"--config={folder / 'jobset.yaml'}", "--zap-log-level=2"]
        self.processes = (
            Process("trainer", trainer, folder, {"KUBECONFIG": str(self._cluster.kubeconfig(_TRAINER_USER))}),
            Process("jobset", jobset, folder, {"KUBECONFIG": str(self._cluster.kubeconfig(_JOBSET_USER))}),
        )

        async def ready() -> bool:
            for each in self.processes:
                each.check()
            return all([await read(port, "/readyz") for port in self._health.values()]) and self._knows_runtimes()

        await until("a ready Trainer and JobSet", ready, seconds=120, interval=0.5, cluster=self._cluster)

    def stop(self) -> None:
        """End both."""
        for process in self.processes:
            process.terminate()
        self.processes = ()
        self._mounts.close()

    def kill(self) -> None:
        """End both as a lost node would."""
        for process in self.processes:
            process.kill()
        self._mounts.close()

    async def is_in_sync(self, jobs: int) -> bool:
        """Return whether both made as many passes as there are jobs, and none waits for another."""
        pages = [
            await read(self._metrics[_TRAINER], "/metrics"),
            await read(self._metrics[_JOBSET], "/metrics", token=self._cluster.tokens["admin"]),
        ]
        return all(_is_in_sync(read_metrics(page), jobs) for page in pages)

    def job(self, name: str, kind: Kind) -> Document:
        """Return a TrainJob."""
        resources = {"cpu": "1", "memory": "16Gi", "nvidia.com/gpu": "1"}
        return {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": {"name": name},
            "spec": {
                "runtimeRef": {"name": _runtime_name(short=kind.short)},
                "trainer": {
                    "image": IMAGE,
                    "numNodes": 1,
                    "resourcesPerNode": {"requests": resources, "limits": resources},
                },
            },
        }

    def is_running(self, document: Document) -> bool:
        """Return whether the JobSet says that the pod is ready."""
        jobs = (document.get("status") or {}).get("replicatedJobsStatus") or []
        return any(each["ready"] for each in jobs)

    def is_done(self, job: Document) -> bool:
        """Return whether the job is complete."""
        return condition(job, "Complete") == "True"

    def _installed(self, documents: list[Document], name: str) -> list[Document]:
        address = f"https://127.0.0.1:{self._webhooks[name]}"
        for document in documents:
            for webhook in document.get("webhooks", ()):
                path = webhook["clientConfig"].pop("service")["path"]
                webhook["clientConfig"] = {"url": address + path, "caBundle": self._certificates.authority}
        return [each for each in documents if each["kind"] not in _NOT_INSTALLED]

    def _write_configuration(self, jobset: list[Document]) -> None:
        """Write JobSet's own configuration, with ports of this machine."""
        given = next(each["data"] for each in jobset if each["kind"] == "ConfigMap")
        configuration: dict[str, Any] = yaml.safe_load(given["controller_manager_config.yaml"]) | {
            "webhook": {"port": self._webhooks[_JOBSET]},
            "health": {"healthProbeBindAddress": f"127.0.0.1:{self._health[_JOBSET]}"},
            "metrics": {"bindAddress": f"127.0.0.1:{self._metrics[_JOBSET]}"},
            "leaderElection": {"leaderElect": False},
        }
        (self._cluster.folder / "jobset.yaml").write_text(yaml.safe_dump(configuration))

    def _knows_runtimes(self) -> bool:
        """Apply the runtimes, which Trainer's webhook must allow; False as long as it does not answer."""
        try:
            self._cluster.apply([_runtime(short=short) for short in (False, True)])
        except RuntimeError:
            return False
        return True


def _render(cluster: Cluster, folder: Path) -> list[Document]:
    return list(yaml.safe_load_all(cluster.kubectl("kustomize", str(folder))))


def _trainer_objects(cluster: Cluster) -> list[Document]:
    """Return Trainer's own objects in the namespace in which its manifests put them."""
    base = module_folder("trainer", _TRAINER_MODULE) / "manifests" / "base"
    objects = [each for part in ("crds", "rbac", "webhook") for each in _render(cluster, base / part)]
    for each in objects:
        if each["kind"] == "ServiceAccount":
            each["metadata"]["namespace"] = _TRAINER_NAMESPACE
        for subject in each.get("subjects", ()):
            subject["namespace"] = _TRAINER_NAMESPACE
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _TRAINER_NAMESPACE}}, *objects]


def _secret(namespace: str, name: str, certificates: Certificates) -> Document:
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": certificates.data()}


def _runtime(*, short: bool) -> Document:
    """Return Trainer's runtime for PyTorch, with a name and pods of our own."""
    runtimes = module_folder("trainer", _TRAINER_MODULE) / "manifests" / "base" / "runtimes"
    runtime: Document = yaml.safe_load((runtimes / "torch_distributed.yaml").read_text())
    runtime["metadata"]["name"] = _runtime_name(short=short)
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    job["template"]["spec"]["template"]["metadata"] = {"labels": {LIFE_LABEL: SHORT if short else "long"}}
    return runtime


def _runtime_name(*, short: bool) -> str:
    return "bench-short" if short else "bench-long"


def _is_in_sync(values: dict[str, float], jobs: int) -> bool:
    passes = sum(value for name, value in values.items() if name.startswith(_RECONCILED) and 'result="success"' in name)
    return passes >= jobs and not any(value for name, value in values.items() if name.startswith(_WAITING))
