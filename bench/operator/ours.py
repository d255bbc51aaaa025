"""This project's operator as its manifests install it: its own ServiceAccount and rights, a process of its own."""

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.operator.client import read, read_metrics, until
from bench.operator.cluster import Cluster, service_account
from bench.operator.contender import IMAGE, Contender, Document, Kind, condition
from bench.operator.process import Process
from bench.operator.stages import LIFE_LABEL, SHORT, adapter_uri
from generate.install import install_objects
from support.apiserver import free_port
from support.samples import DIGEST, lorajob

_NAMESPACE, _ACCOUNT = "lora-system", "lora-operator"
USER, GROUPS = service_account(_NAMESPACE, _ACCOUNT)
_NOT_INSTALLED = ("Deployment",)
"""It runs beside the benchmark instead, where its memory can be seen."""


class Ours(Contender):
    """The operator of this project."""

    name = "lora-operator"
    short_name = "ours"
    users = frozenset({USER})
    resource = "/apis/lora-operator.io/v1alpha1/lorajobs"
    running_resource = resource
    left_resources = ("/apis/lora-operator.io/v1alpha1/loraadapters",)
    has_preflight = True

    def __init__(self, cluster: Cluster, profile: Path | None = None) -> None:
        """Install it. With `profile` it runs under cProfile, and its costs go to that folder whenever it ends."""
        self._cluster = cluster
        self._profile = profile
        self._starts = 0
        self.processes: Sequence[Process] = ()
        cluster.apply([each for each in install_objects() if each["kind"] not in _NOT_INSTALLED])

    async def start(self) -> None:
        """Start it, and return when its probe passes."""
        self._health, self._metrics = free_port(), free_port()
        module = ["-m", "lora_operator.app.main"]
        if self._profile:
            module = ["-m", "cProfile", "-o", str(self._profile / f"{self._starts}.prof"), *module]
        self._starts += 1
        command = [
            *(sys.executable, *module, "--trainer-image", IMAGE, "--progress", "direct", "--listen", "127.0.0.1"),
            *("--health-port", str(self._health), "--metrics-port", str(self._metrics)),
        ]
        variables = {"KUBECONFIG": str(self._cluster.kubeconfig(USER))}
        process = Process("lora-operator", command, self._cluster.folder, variables)
        self.processes = (process,)

        async def healthy() -> bool:
            process.check()
            return bool(await read(self._health, "/healthz"))

        await until("a healthy operator", healthy, seconds=60, interval=0.1, cluster=self._cluster)

    def stop(self) -> None:
        """End it."""
        for process in self.processes:
            process.terminate()
        self.processes = ()

    def kill(self) -> None:
        """End it as a lost node would."""
        for process in self.processes:
            process.kill()

    def job(self, name: str, kind: Kind) -> Document:
        """Return a LoRAJob."""
        labels = {LIFE_LABEL: SHORT} if kind.short else {}
        changes = {
            "output": {"uri": "s3://bench"},
            "preflight": {"enabled": kind.preflight},
            "adapter": {"create": kind.adapter},
            "resources": {"gpus": 1, "cpu": "1", "memory": "16Gi"},
            "pod": {"labels": labels},
        }
        return lorajob(name, **changes)

    def is_running(self, document: Document) -> bool:
        """Return whether the job says that its pod trains."""
        return condition(document, "Running") == "True"

    def is_done(self, job: Document) -> bool:
        """Return whether the job has its own adapter in its status."""
        adapter = (job.get("status") or {}).get("adapter") or {}
        found = (adapter.get("digest"), adapter.get("uri"))
        return condition(job, "Succeeded") == "True" and found == (DIGEST, adapter_uri(job["metadata"]["name"]))

    async def is_in_sync(self, jobs: int) -> bool:
        """Return whether each job had a pass since the start, and none waits for another."""
        values = read_metrics(await read(self._metrics, "/metrics"))
        known = sum(value for name, value in values.items() if name.startswith("loraop_lorajobs{"))
        return known == jobs and values.get("loraop_workqueue_depth") == 0
