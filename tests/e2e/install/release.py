"""A release of the chart in the cluster of the end-to-end tests, and what kubectl installs in its place."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from demo.kubectl import get, items, kubectl
from deploy.release import CHART, NAME, NAMESPACE, WAIT, cluster_values, upgrade_arguments
from lora_api.crd import all_crds
from support.helm import Helm
from support.tools import ROOT
from support.wait import wait_for

PREVIOUS = "0.0.9"
CRDS = [f"crd/{each['metadata']['name']}" for each in all_crds().values()]
OPERATOR_PODS = "app.kubernetes.io/name=lora-operator,app.kubernetes.io/component=controller"
_OF_HELM = {
    "label": ("instance", "managed-by", "version", "name", "component"),
    "annotate": ("meta.helm.sh/release-name", "meta.helm.sh/release-namespace", "helm.sh/resource-policy"),
}


class Release:
    """One release: its chart, its values and its namespace."""

    def __init__(self, helm: Helm, name: str = NAME, namespace: str = NAMESPACE, **values: Any) -> None:
        self.helm = helm
        self.name = name
        self.namespace = namespace
        self.values = cluster_values(os.environ) | values

    def apply(self, chart: Path = CHART, values: dict[str, Any] | None = None) -> None:
        """Install or upgrade, and wait until the operator is ready."""
        self.helm(*self._upgrade(chart), *WAIT, stdin=yaml.safe_dump(self.values | (values or {})))

    def fail(self, seconds: int, values: dict[str, Any]) -> None:
        """Try an upgrade whose operator cannot start."""
        waiting = ("--wait", "--timeout", f"{seconds}s")
        done = self.helm.run(*self._upgrade(CHART), *waiting, stdin=yaml.safe_dump(self.values | values))
        assert done.returncode != 0, "it succeeded"
        assert self.history()[-1]["status"] == "failed", done.stderr  # and was not refused before anything was done

    def _upgrade(self, chart: Path) -> tuple[str, ...]:
        return upgrade_arguments(chart, name=self.name, namespace=self.namespace)

    def rollback(self, revision: int) -> None:
        """Go back to a revision, and wait until its operator is ready."""
        self.helm("rollback", self.name, str(revision), "--namespace", self.namespace, *WAIT)

    def uninstall(self) -> None:
        """Remove the release, if it is there, and wait until its objects are gone."""
        self.helm("uninstall", self.name, "--namespace", self.namespace, "--ignore-not-found", *WAIT)

    def history(self) -> list[dict[str, Any]]:
        """Return the revisions, the oldest first."""
        text = self.helm("history", self.name, "--namespace", self.namespace, "--output", "json")
        found: list[dict[str, Any]] = json.loads(text)
        return found

    def operator_pod(self) -> dict[str, Any]:
        """Return the one pod of the operator, once all others are gone."""

        def alone() -> dict[str, Any] | None:
            pods = items(self.namespace, "pods", OPERATOR_PODS)
            return pods[0] if len(pods) == 1 else None

        return wait_for("one pod of the operator", alone, seconds=120)


def previous_chart(helm: Helm, folder: Path) -> Path:
    """Return a package of the chart as an earlier version. There is no release before this one to upgrade from."""
    helm("package", str(CHART), "--version", PREVIOUS, "--destination", str(folder))
    return folder / f"lora-operator-{PREVIOUS}.tgz"


def ca_bundle() -> str:
    """Return whom the API server trusts as the webhook."""
    entry = json.loads(kubectl("get", "mutatingwebhookconfiguration", "lora-operator", "-o", "json"))
    return str(entry["webhooks"][0]["clientConfig"].get("caBundle", ""))


def exists(kind: str, name: str) -> bool:
    """Say whether an object is there, in the operator's namespace if it has one."""
    return get(NAMESPACE, kind, name) is not None


def install_with_kubectl() -> None:
    """Install the operator from plain manifests, and wait for it. Nothing of Helm stays on the CRDs that it left."""
    labels = [f"app.kubernetes.io/{each}-" for each in _OF_HELM["label"]]
    kubectl("label", *CRDS, *labels, "helm.sh/chart-")
    kubectl("annotate", *CRDS, *(f"{each}-" for each in _OF_HELM["annotate"]))
    command = [sys.executable, "-m", "generate", "install"]
    for part in ("operator", "trainer", "agent"):
        command += [f"--{part}-image", os.environ[f"LORA_{part.upper()}_IMAGE"]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "hack")}
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=made.stdout)
    kubectl("-n", NAMESPACE, "rollout", "status", "deployment/lora-operator", "--timeout=180s")
