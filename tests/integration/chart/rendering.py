"""What a rendering holds, and how it is compared with what `kubectl apply` would install."""

from pathlib import Path
from typing import Any

from generate.install import LABELS
from support.helm import CHART, Helm, objects_of

MANIFESTS = Path(__file__).resolve().parents[3] / "manifests"
CASES = sorted((CHART / "ci").glob("*-values.yaml"))
KEEP = "helm.sh/resource-policy"
_HELM_LABELS = (
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
)
"""All that a release adds to an object, beside what CRDs get: see `installed_by_helm`."""
_COMPONENT = "app.kubernetes.io/component"

Object = dict[str, Any]
Key = tuple[str, str | None, str]


def by_key(objects: list[Object]) -> dict[Key, Object]:
    """Return objects by kind, namespace and name, each of which is there once."""
    found = {(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]): each for each in objects}
    assert len(found) == len(objects)
    return found


def installed_by_hand(objects: list[Object]) -> dict[Key, Object]:
    """Return what `kubectl apply` installs, but for the Namespace: Helm's `--create-namespace` makes that."""
    return by_key([each for each in objects if each["kind"] != "Namespace"])


def installed_by_helm(objects: list[Object]) -> dict[Key, Object]:
    """Return what the chart installs, without what Helm adds. That must be there."""
    for each in objects:
        for label in _HELM_LABELS:
            del each["metadata"]["labels"][label]
        if each["kind"] == "CustomResourceDefinition":  # the manifest's have neither labels nor annotations
            assert each["metadata"].pop("annotations") == {KEEP: "keep"}
            assert each["metadata"].pop("labels") == LABELS
    return by_key(objects)


def the(kind: str, objects: list[Object], name: str | None = None) -> Object:
    """Return the one object of a kind, or the one with a name."""
    (found,) = (each for each in objects if each["kind"] == kind and name in (None, each["metadata"]["name"]))
    return found


def of_component(component: str, objects: list[Object]) -> list[Object]:
    """Return the objects of the operator (`controller`) or of the dashboard."""
    return [each for each in objects if each["metadata"].get("labels", {}).get(_COMPONENT) == component]


def container(objects: list[Object], component: str = "controller") -> Object:
    """Return the container of the operator, or of the dashboard."""
    (found,) = the("Deployment", of_component(component, objects))["spec"]["template"]["spec"]["containers"]
    return dict(found)


def render(helm: Helm, case: Path) -> list[Object]:
    """Return the objects of a file of values."""
    return objects_of(helm.template("--values", str(case)))
