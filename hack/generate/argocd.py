"""The entries that teach Argo CD the project's kinds, as a ConfigMap that adds to what is in `argocd-cm` already.

The scripts lie in the layout of Argo CD's own `resource_customizations`; this only packs them. It reads the tree and
writes nothing.
"""

from pathlib import Path
from typing import Any

from generate.blocks import dump
from lora_api.names import GROUP

SCRIPTS = Path("manifests") / "argocd" / GROUP
KINDS = ("LoRAJob", "LoRAAdapter")
HEADER = f"""\
# Health, actions and ignored differences for Argo CD, packed from {SCRIPTS}.
# kubectl apply --server-side -f manifests/argocd/argocd-cm.yaml    leaves all other keys of argocd-cm as they are.
"""
_CA_BUNDLE = {"jqPathExpressions": [".webhooks[]?.clientConfig.caBundle"]}
"""Each replica of the operator adds the authority of its certificate there."""

Object = dict[str, Any]


def argocd_config(root: Path) -> str:
    """Return the ConfigMap as YAML; `root` is the repository's."""
    data: dict[str, str] = {}
    for kind in KINDS:
        folder = root / SCRIPTS / kind
        data[f"resource.customizations.health.{GROUP}_{kind}"] = (folder / "health.lua").read_text()
        data[f"resource.customizations.actions.{GROUP}_{kind}"] = dump(_actions(folder / "actions"))
    webhook = "admissionregistration.k8s.io_MutatingWebhookConfiguration"
    data[f"resource.customizations.ignoreDifferences.{webhook}"] = dump(_CA_BUNDLE)
    labels = {"app.kubernetes.io/name": "argocd-cm", "app.kubernetes.io/part-of": "argocd"}
    metadata = {"name": "argocd-cm", "namespace": "argocd", "labels": labels}
    return HEADER + dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def _actions(folder: Path) -> Object:
    """Return the actions of a kind as argocd-cm takes them."""
    scripts = sorted(folder.glob("*/action.lua"))
    return {
        "discovery.lua": (folder / "discovery.lua").read_text(),
        "definitions": [{"name": each.parent.name, "action.lua": each.read_text()} for each in scripts],
    }
