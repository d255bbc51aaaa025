"""A release in a real API server, without nodes: what Helm takes over, changes, brings back and leaves."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from generate.__main__ import to_yaml
from generate.dashboard import NAME as DASHBOARD
from generate.dashboard import dashboard_objects
from generate.install import Installation, install_objects
from lora_api.crd import all_crds
from support.apiserver import ApiServer, api_server
from support.helm import CHART, NAMESPACE, RELEASE, Helm
from support.lorajobs import LoRAJobs

pytestmark = pytest.mark.timeout(1500)
"""The first test may build Helm."""
PREVIOUS = "0.0.9"
CRDS = [f"crd/{each['metadata']['name']}" for each in all_crds().values()]
TRUSTED = base64.b64encode(b"-----BEGIN CERTIFICATE-----").decode()
INSTALLED_KINDS = (
    "deployments,services,serviceaccounts,configmaps,roles,rolebindings,clusterroles,clusterrolebindings,"
    "mutatingwebhookconfigurations,networkpolicies"
)


class Cluster:
    """An API server, its kubectl and Helm."""

    def __init__(self, server: ApiServer, helm: Helm) -> None:
        self._server = server
        self._helm = helm

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Return what kubectl prints; fail with its own words."""
        done = self._server.run_kubectl(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return an object of the operator's namespace, or of the cluster."""
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-n", NAMESPACE, "-o", "json"))
        return found

    def helm(self, *arguments: str, **values: Any) -> str:
        """Run Helm against the server."""
        given = ("--values", "-") if values else ()
        where = ("--kubeconfig", str(self._server.kubeconfig), "--namespace", NAMESPACE)
        return self._helm(*arguments, *where, *given, stdin=yaml.safe_dump(values))

    def upgrade(self, chart: Path = CHART, **values: Any) -> None:
        """Install or upgrade the release, which may take over what kubectl has installed, such as the CRDs."""
        self.helm("upgrade", "--install", RELEASE, str(chart), "--take-ownership", "--force-conflicts", **values)

    def of_the_release(self) -> list[str]:
        """Return the names of all objects that belong to the release, but for the CRDs."""
        label = f"app.kubernetes.io/instance={RELEASE}"
        return self.kubectl("get", INSTALLED_KINDS, "--all-namespaces", "-l", label, "-o", "name").split()


@pytest.fixture(scope="module")
def shared(helm: Helm) -> Iterator[Cluster]:
    """Return a server of this module's own: a release changes it as a whole."""
    with api_server() as running:
        found = Cluster(running, helm)
        found.kubectl("delete", "clusterrole,clusterrolebinding", "lora-operator")
        found.kubectl("create", "namespace", NAMESPACE)
        yield found


@pytest.fixture
def cluster(shared: Cluster) -> Iterator[Cluster]:
    """Return the server without an operator and without jobs. The CRDs stay: to delete them can take minutes."""
    yield shared
    shared.helm("uninstall", RELEASE, "--ignore-not-found")
    shared.kubectl("delete", "lorajobs", "--all", "-n", NAMESPACE)


@pytest.fixture(scope="module")
def previous(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the chart in an earlier version."""
    folder = tmp_path_factory.mktemp("charts")
    helm("package", str(CHART), "--version", PREVIOUS, "--destination", str(folder))
    return folder / f"lora-operator-{PREVIOUS}.tgz"


def add_job(cluster: Cluster, name: str) -> dict[str, Any]:
    """Make a LoRAJob, and return it as the server has it."""
    job = LoRAJobs(NAMESPACE, "http://s3.example").sample(name)
    cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump(job))
    return cluster.get("lorajob", name)


def trust(cluster: Cluster) -> None:
    """Write an authority into the webhook's entry, as the operator does."""
    patch = [{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": TRUSTED}]
    cluster.kubectl("patch", "mutatingwebhookconfiguration", RELEASE, "--type=json", "-p", json.dumps(patch))


def trusted(cluster: Cluster) -> str:
    """Return whom the API server trusts."""
    (webhook,) = cluster.get("mutatingwebhookconfiguration", RELEASE)["webhooks"]
    return str(webhook["clientConfig"].get("caBundle"))


def test_helm_takes_over_what_kubectl_has_installed_without_a_new_pod(cluster: Cluster) -> None:
    objects = [each for each in install_objects(Installation()) if each["kind"] != "Namespace"]
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=to_yaml(objects))
    trust(cluster)
    before = cluster.get("deployment", RELEASE)

    cluster.upgrade()
    after = cluster.get("deployment", RELEASE)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"] == before["spec"]
    assert len(cluster.of_the_release()) == len(objects) - len(CRDS)
    assert trusted(cluster) == TRUSTED


def test_what_kubectl_has_set_goes_when_the_deployment_is_made_anew(cluster: Cluster) -> None:
    """Kubectl stays a second owner of what it has set: Helm alone cannot take that away."""

    def variables() -> set[str]:
        (container,) = cluster.get("deployment", RELEASE)["spec"]["template"]["spec"]["containers"]
        return {each["name"] for each in container["env"]}

    deployment = [each for each in install_objects(Installation()) if each["kind"] == "Deployment"]
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=to_yaml(deployment))
    cluster.upgrade()
    cluster.upgrade(webhook={"enabled": False})
    assert "LORA_AGENT_IMAGE" in variables()

    cluster.kubectl("delete", "deployment", RELEASE, "-n", NAMESPACE)
    cluster.upgrade(webhook={"enabled": False})
    assert "LORA_AGENT_IMAGE" not in variables()


def test_an_upgrade_and_a_rollback_touch_no_job_and_no_trust(cluster: Cluster, previous: Path) -> None:
    cluster.upgrade(previous)
    job = add_job(cluster, "through-upgrades")
    trust(cluster)

    cluster.upgrade(replicaCount=2, webhook={"failurePolicy": "Ignore"})
    assert cluster.get("deployment", RELEASE)["spec"]["replicas"] == 2
    entry = cluster.get("mutatingwebhookconfiguration", RELEASE)
    assert entry["webhooks"][0]["failurePolicy"] == "Ignore"
    assert entry["metadata"]["labels"]["helm.sh/chart"] == "lora-operator-0.1.0"
    assert trusted(cluster) == TRUSTED

    cluster.helm("rollback", RELEASE)
    assert cluster.get("deployment", RELEASE)["spec"]["replicas"] == 1
    assert cluster.get(*CRDS[0].split("/"))["metadata"]["labels"]["helm.sh/chart"] == f"lora-operator-{PREVIOUS}"
    assert trusted(cluster) == TRUSTED
    assert cluster.get("lorajob", "through-upgrades") == job


def test_values_that_are_taken_back_leave_nothing(cluster: Cluster) -> None:
    policy = {"policy": {"rules": [{"namespaces": ["*"], "maxGPUs": 8}]}}
    cluster.upgrade(config=policy, podDisruptionBudget={"enabled": True}, extraArgs=["--log-level=debug"])
    assert "configmap/lora-operator" in cluster.of_the_release()

    cluster.upgrade(webhook={"enabled": False})
    (container,) = cluster.get("deployment", RELEASE)["spec"]["template"]["spec"]["containers"]
    assert {each["name"] for each in container["env"]} == {"LORA_TRAINER_IMAGE", "LORA_WEBHOOK", "POD_NAME"}
    assert [each["name"] for each in container["ports"]] == ["health", "metrics"]
    assert "args" not in container
    assert not [each for each in cluster.of_the_release() if "webhook" in each or "configmap" in each]


def test_helm_takes_over_the_dashboard_and_takes_it_away_again(cluster: Cluster) -> None:
    def of_the_dashboard() -> list[str]:
        return [each for each in cluster.of_the_release() if each.endswith(f"/{DASHBOARD}")]

    objects = dashboard_objects()
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=to_yaml(objects))
    before = cluster.get("deployment", DASHBOARD)
    cluster.upgrade(dashboard={"enabled": True})
    after = cluster.get("deployment", DASHBOARD)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"] == before["spec"]
    assert len(of_the_dashboard()) == len(objects)

    cluster.upgrade(dashboard={"enabled": True, "auth": "passthrough"})
    assert not [each for each in of_the_dashboard() if "role" in each], "a right that is not needed is taken away"
    assert len(of_the_dashboard()) == len(objects) - 2
    cluster.upgrade(dashboard={"enabled": False})
    assert of_the_dashboard() == []


def test_what_is_uninstalled_leaves_crds_and_jobs_and_can_come_back(cluster: Cluster) -> None:
    cluster.upgrade()
    job = add_job(cluster, "survivor")

    cluster.helm("uninstall", RELEASE)
    assert cluster.of_the_release() == []
    assert [cluster.get(*each.split("/"))["metadata"].get("deletionTimestamp") for each in CRDS] == [None] * len(CRDS)
    assert cluster.get("lorajob", "survivor") == job

    cluster.upgrade()
    assert cluster.get("lorajob", "survivor") == job
    assert "deployment.apps/lora-operator" in cluster.of_the_release()
