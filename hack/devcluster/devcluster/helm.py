"""Builds Helm, which lints, packages and installs the chart: not part of the cluster, and built only for who asks.

It has a module of its own. Helm wants a later client of Kubernetes than the cluster's release has, and a new Helm must
not build the whole cluster anew.
"""

from pathlib import Path

from devcluster.binaries import build, need_disk, required_version
from devcluster.settings import HELM_MODULE_DIR, Paths
from devcluster.shell import step

PACKAGE = "helm.sh/helm/v4/cmd/helm"
_BUILD_DISK_GIB = 3  # module and build cache of a cold build are about 2 GiB


def ensure_helm(paths: Paths) -> Path:
    """Return the program, built if the cache lacks it."""
    if not paths.helm.exists():
        paths.helm.parent.mkdir(parents=True, exist_ok=True)
        need_disk(paths.helm.parent, _BUILD_DISK_GIB, "to build Helm")
        with step("built helm"):
            build(HELM_MODULE_DIR, PACKAGE, paths.helm, _linker_flags())
    return paths.helm


def _linker_flags() -> str:
    """Helm does not know its own version unless that is stamped in."""
    version = required_version(HELM_MODULE_DIR, "helm.sh/helm/v4")
    return f"-s -w -X helm.sh/helm/v4/internal/version.version={version}"
