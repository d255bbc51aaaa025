"""Kustomizations: CRDs and operator as bases, both together, and an overlay that serves one namespace alone.

Pure. The overlay says what differs between two installations of `generate.install`, so it cannot fall behind them; a
test renders it with kubectl and compares.
"""

from pathlib import Path
from typing import Any

from generate.blocks import dump
from generate.install import Installation, install_objects
from lora_api.crd import all_crds

EXAMPLE_NAMESPACE = "team-a"
API_VERSION = "kustomize.config.k8s.io/v1beta1"
OPERATOR = "operator.yaml"
RIGHTS = "rights.yaml"
_OVERLAY_HEADER = f"""\
# The operator for the namespace {EXAMPLE_NAMESPACE} alone, which must exist:
#   kubectl apply --server-side -k manifests/overlays/namespaced
# For other namespaces: PYTHONPATH=hack .venv/bin/python -m generate install --namespace NAME --namespace NAME
"""

Object = dict[str, Any]
Key = tuple[str, str, str]


def kustomizations(manifests: Path) -> dict[Path, str]:
    """Return the generated kustomizations, and what they need beside the other manifests, by their paths."""
    crd, operator, namespaced = (manifests / each for each in ("crd", "operator", "overlays/namespaced"))
    crds = [f"{name}.yaml" for name in sorted(all_crds())]
    without_crds = [each for each in install_objects() if each["kind"] != "CustomResourceDefinition"]
    rights = _only_in(_served(), install_objects()).values()
    return {
        manifests / "kustomization.yaml": dump(_kustomization(["crd", "operator"])),
        crd / "kustomization.yaml": dump(_kustomization(crds)),
        operator / "kustomization.yaml": dump(_kustomization([OPERATOR])),
        operator / OPERATOR: dump(*without_crds),
        namespaced / "kustomization.yaml": _OVERLAY_HEADER + dump(_namespaced()),
        namespaced / RIGHTS: dump(*rights),
    }


def key_of(document: Object) -> Key:
    """Return what names an object within an installation: kind, namespace and name."""
    metadata = document["metadata"]
    return document["kind"], metadata.get("namespace", ""), metadata["name"]


def _kustomization(resources: list[str], **more: Any) -> Object:
    return {"apiVersion": API_VERSION, "kind": "Kustomization", "resources": resources, **more}


def _served() -> list[Object]:
    return install_objects(Installation(namespaces=(EXAMPLE_NAMESPACE,)))


def _only_in(some: list[Object], others: list[Object]) -> dict[Key, Object]:
    known = {key_of(each) for each in others}
    return {key_of(each): each for each in some if key_of(each) not in known}


def _namespaced() -> Object:
    """Return the overlay: rights of the cluster taken away, those of the namespace added, and who is asked narrowed."""
    served = {key_of(each): each for each in _served()}
    dropped = [_deleted(each) for each in _only_in(install_objects(), _served()).values()]
    changed = [_environment(each) for key, each in served.items() if key[0] == "Deployment"]
    changed += [_selector(each) for key, each in served.items() if key[0] == "MutatingWebhookConfiguration"]
    patches = [{"patch": dump(each)} for each in (*dropped, *changed)]
    return _kustomization(["../../crd", "../../operator", RIGHTS], patches=patches)


def _deleted(document: Object) -> Object:
    return _head(document) | {"$patch": "delete"}


def _environment(deployment: Object) -> Object:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    env = [each for each in container["env"] if each["name"] == "LORA_NAMESPACES"]
    return _head(deployment) | {
        "spec": {"template": {"spec": {"containers": [{"name": container["name"], "env": env}]}}}
    }


def _selector(configuration: Object) -> Object:
    kept = ("name", "namespaceSelector")
    return _head(configuration) | {"webhooks": [{key: each[key] for key in kept} for each in configuration["webhooks"]]}


def _head(document: Object) -> Object:
    names = {key: value for key, value in document["metadata"].items() if key in ("name", "namespace")}
    return {"apiVersion": document["apiVersion"], "kind": document["kind"], "metadata": names}
