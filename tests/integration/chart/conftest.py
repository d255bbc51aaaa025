"""The chart as Helm renders it, and a real API server that judges what is rendered."""

from collections.abc import Iterator

import pytest
import yaml

from support.apiserver import ApiServer, api_server
from support.helm import NAMESPACE, Helm, find_helm

STUBBED = {
    "monitoring.coreos.com": {"ServiceMonitor": "v1", "PodMonitor": "v1", "PrometheusRule": "v1"},
    "cert-manager.io": {"Issuer": "v1", "Certificate": "v1"},
    "gateway.networking.k8s.io": {"HTTPRoute": "v1"},
}
"""Types of other projects, of which the server is told the names and nothing else."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--update-chart`: `pytest tests/integration/chart --update-chart` writes the golden renderings anew."""
    parser.addoption("--update-chart", action="store_true", help="write the golden renderings anew")


@pytest.fixture(scope="session")
def update_chart(request: pytest.FixtureRequest) -> bool:
    """Return whether the golden renderings are to be written."""
    return bool(request.config.getoption("--update-chart", default=False))


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Return Helm; it is built the first time."""
    return Helm(find_helm(), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def server() -> Iterator[ApiServer]:
    """Return an API server with the namespaces that the renderings name, and with the types of other projects."""
    with api_server() as running:
        # The chart brings these itself, and another way of applying would make kubectl warn.
        running.run_kubectl("delete", "clusterrole,clusterrolebinding", "lora-operator")
        stubs = [_stub(group, kind, version) for group, kinds in STUBBED.items() for kind, version in kinds.items()]
        _apply(running, [*stubs, *(_namespace(each) for each in (NAMESPACE, "team-a", "team-b"))])
        for each in stubs:
            done = running.run_kubectl("wait", "--for=condition=Established", f"crd/{each['metadata']['name']}")
            assert done.returncode == 0, done.stderr
        yield running


def _apply(server: ApiServer, objects: list[dict[str, object]]) -> None:
    done = server.run_kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(objects))
    assert done.returncode == 0, done.stderr


def _namespace(name: str) -> dict[str, object]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _stub(group: str, kind: str, version: str) -> dict[str, object]:
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        # Without the annotation the server refuses a type of a group that belongs to Kubernetes.
        "metadata": {"name": f"{plural}.{group}", "annotations": {"api-approved.kubernetes.io": "unapproved, a stub"}},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "scope": "Namespaced",
            "versions": [served],
        },
    }
