"""What GitOps tools see: the same manifests, compared with the live objects after the real operator has worked on them.

`kubectl diff` makes the three-way merge (last applied, live, manifest) at the API server, as Argo CD and Flux do, once
the old way and once by server-side apply. It ends with 0 where nothing differs, with 1 where something does.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from generate.install import install_objects
from lora_operator.app.certificates import make_certificate
from lora_operator.cluster.permissions import WEBHOOK_NAME
from lora_operator.cluster.webhook_config import trust_operations
from support.apiserver import ApiServer
from support.objects import Objects
from support.operator_process import Operator
from support.wait import wait_for

MANIFESTS = Path(__file__).resolve().parents[3] / "manifests"
GIT_OPS = "argocd-controller"
FINALIZERS = {"support-bot": "lora-operator.io/artifacts", "hand-written": "lora-operator.io/unload"}
KINDS = (("LoRAJob", "support-bot"), ("LoRAAdapter", "hand-written"))

Object = dict[str, Any]


@pytest.fixture
def operator(server: ApiServer, cluster: Objects, tmp_path: Path) -> Iterator[Operator]:
    """Return a running operator that serves the test's namespace."""
    running = Operator(server, cluster.namespace, tmp_path)
    yield running
    running.process.kill()
    running.process.wait(timeout=10)


class Repository:
    """What lies in Git, and how it is synced: by `kubectl apply`, or by server-side apply."""

    def __init__(self, objects: Objects, documents: list[Object], *, server_side: bool) -> None:
        self._objects = objects
        self._text = yaml.safe_dump_all(documents)
        self._how = ["--server-side", "--force-conflicts", f"--field-manager={GIT_OPS}"] if server_side else []

    def sync(self) -> None:
        done = self._run("apply")
        assert done.returncode == 0, done.stderr

    def drift(self) -> str:
        """Return what differs; empty if nothing does."""
        done = self._run("diff")
        assert done.returncode in (0, 1), done.stderr
        assert bool(done.stdout) == bool(done.returncode)
        return str(done.stdout)

    def _run(self, verb: str) -> Any:
        arguments = [verb, *self._how, "-n", self._objects.namespace, "-f", "-"]
        return self._objects.server.run_kubectl(*arguments, stdin=self._text)


def sample_job() -> Object:
    """Return the sample with the finalizer that the operator adds, and so with all that it ever writes."""
    document: Object = yaml.safe_load((MANIFESTS / "samples" / "lorajob.yaml").read_text())
    document["spec"] |= {"deletionPolicy": "Delete", "resources": document["spec"]["resources"] | {"cpu": "1500m"}}
    return document


def hand_written() -> Object:
    document: Object = yaml.safe_load((MANIFESTS / "samples" / "serving" / "adapter-s3.yaml").read_text())
    document["metadata"]["name"] = document["spec"]["servedName"] = "hand-written"
    return document


def asking_pod() -> Object:
    """Return an inference pod with an agent that nobody reaches, which is enough to be told something."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "engine-1",
            "labels": {"lora-operator.io/inject": "true"},
            "annotations": {
                "lora-operator.io/adapters": "hand-written",
                "lora-operator.io/injected": json.dumps({"engine": "vllm", "container": "engine", "port": 8000}),
            },
        },
        "spec": {
            "nodeName": "node-1",
            "initContainers": [{"name": "lora-agent", "image": "agent", "restartPolicy": "Always"}],
            "containers": [{"name": "engine", "image": "vllm"}],
        },
    }


def has_worked(cluster: Objects, kind: str, name: str) -> bool:
    """Return whether the operator has written all that it writes to an object: status and finalizer."""
    found = cluster.get(kind, name) or {}
    return bool(found.get("status")) and FINALIZERS[name] in (found["metadata"].get("finalizers") or [])


@pytest.mark.parametrize("server_side", [False, True], ids=["three-way merge", "server-side apply"])
def test_nothing_drifts_when_the_operator_has_worked(cluster: Objects, operator: Operator, server_side: bool) -> None:
    repository = Repository(cluster, [sample_job(), hand_written()], server_side=server_side)
    repository.sync()
    cluster.create(asking_pod())
    cluster.set_status("Pod", "engine-1", {"phase": "Running"})
    wait_for("the adapter is worked on", lambda: has_worked(cluster, "LoRAAdapter", "hand-written"))
    cluster.run_to_success("support-bot")
    assert has_worked(cluster, "LoRAJob", "support-bot")
    assert repository.drift() == ""
    versions = [cluster.wait(kind, name)["metadata"]["generation"] for kind, name in KINDS]
    repository.sync()
    assert [cluster.wait(kind, name)["metadata"]["generation"] for kind, name in KINDS] == versions, "no new run"
    assert has_worked(cluster, "LoRAJob", "support-bot"), "a sync takes nothing of the operator away"
    assert has_worked(cluster, "LoRAAdapter", "hand-written")


@pytest.mark.parametrize("server_side", [False, True], ids=["three-way merge", "server-side apply"])
def test_a_suspension_by_hand_drifts_only_where_git_speaks_of_it(cluster: Objects, server_side: bool) -> None:
    silent, speaking = sample_job(), sample_job()
    speaking["metadata"]["name"] = "speaking"
    speaking["spec"]["suspend"] = False
    repositories = [Repository(cluster, [each], server_side=server_side) for each in (silent, speaking)]
    for repository, document in zip(repositories, (silent, speaking), strict=True):
        repository.sync()
        change = {"metadata": {"annotations": {"lora-operator.io/restart": "2"}}, "spec": {"suspend": True}}
        cluster.patch("LoRAJob", document["metadata"]["name"], change)
    assert repositories[0].drift() == "", "the action of Argo CD stays as it is"
    assert "+  suspend: false" in repositories[1].drift(), "self-heal takes it back"


@pytest.mark.parametrize("server_side", [False, True], ids=["three-way merge", "server-side apply"])
def test_the_certificate_that_replicas_add_to_the_webhook_does_not_drift(cluster: Objects, server_side: bool) -> None:
    (entry,) = (each for each in install_objects() if each["kind"] == "MutatingWebhookConfiguration")
    name = f"{WEBHOOK_NAME}-{cluster.namespace}"
    entry = json.loads(json.dumps(entry))
    entry["metadata"]["name"] = name
    entry["webhooks"][0]["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": "nowhere"}}
    repository = Repository(cluster, [entry], server_side=server_side)
    repository.sync()
    trust(cluster.server, name)
    assert repository.drift() == ""
    repository.sync()
    assert live_bundle(cluster.server, name), "a sync leaves the certificate where it is"


def trust(server: ApiServer, name: str) -> None:
    """Add an authority, as a replica does."""
    now = datetime.now(UTC)
    authority = make_certificate(["webhook.example"], "test", now).authority
    live = json.loads(server.run_kubectl("get", "mutatingwebhookconfiguration", name, "-o", "json").stdout)
    operations = json.dumps(trust_operations(live, authority, now))
    done = server.run_kubectl("patch", "mutatingwebhookconfiguration", name, "--type=json", "-p", operations)
    assert done.returncode == 0, done.stderr


def live_bundle(server: ApiServer, name: str) -> str:
    live = json.loads(server.run_kubectl("get", "mutatingwebhookconfiguration", name, "-o", "json").stdout)
    return str(live["webhooks"][0]["clientConfig"].get("caBundle", ""))


@pytest.mark.parametrize("server_side", [False, True], ids=["three-way merge", "server-side apply"])
def test_the_installation_does_not_drift_from_its_own_manifest(server: ApiServer, server_side: bool) -> None:
    """Not the defaults that the API server writes into a Deployment, nor those of a CRD."""
    assert server.run_kubectl("create", "namespace", "lora-system").returncode in (0, 1)
    how = ["--server-side", "--force-conflicts", f"--field-manager={GIT_OPS}"] if server_side else []
    arguments = [*how, "-f", str(MANIFESTS / "install.yaml")]
    done = server.run_kubectl("apply", *arguments)
    assert done.returncode == 0, done.stderr
    compared = server.run_kubectl("diff", *arguments)
    assert (compared.returncode, compared.stdout) == (0, ""), compared.stderr


def test_the_entries_for_argo_cd_leave_the_others_in_its_config_map(server: ApiServer) -> None:
    assert server.run_kubectl("create", "namespace", "argocd").returncode == 0
    mine = ["create", "configmap", "argocd-cm", "-n", "argocd", "--from-literal=url=https://argocd.example"]
    assert server.run_kubectl(*mine).returncode == 0
    done = server.run_kubectl("apply", "--server-side", "-f", str(MANIFESTS / "argocd" / "argocd-cm.yaml"))
    assert done.returncode == 0, done.stderr
    data = json.loads(server.run_kubectl("get", "configmap", "argocd-cm", "-n", "argocd", "-o", "json").stdout)["data"]
    assert data["url"] == "https://argocd.example"
    assert "resource.customizations.health.lora-operator.io_LoRAJob" in data
