"""Helm is pinned beside the cluster's programs, and apart from them."""

from pathlib import Path

import pytest

from devcluster.binaries import required_version
from devcluster.helm import PACKAGE
from devcluster.settings import HELM_MODULE_DIR, MODULE_DIR, Paths, cache_key
from devcluster.shell import DevclusterError


def test_helm_is_required_by_the_module_that_builds_it() -> None:
    module = PACKAGE.removesuffix("/cmd/helm")
    assert required_version(HELM_MODULE_DIR, module).startswith("v4.")
    assert f'import _ "{PACKAGE}"' in (HELM_MODULE_DIR / "tools.go").read_text()


def test_what_a_module_does_not_require_is_an_error() -> None:
    with pytest.raises(DevclusterError, match=r"go\.mod requires no helm\.sh/helm"):
        required_version(MODULE_DIR, "helm.sh/helm/v4")


def test_helm_and_the_cluster_s_programs_are_built_anew_independently() -> None:
    where = Paths(state=Path("/state"), binaries=Path("/cache/cluster"))
    assert where.helm.parent.parent == where.binaries.parent
    assert where.helm.parent.name == f"helm-{cache_key(HELM_MODULE_DIR, ('go.mod', 'go.sum'))}"
    assert cache_key(MODULE_DIR) != cache_key(MODULE_DIR, ("go.mod", "go.sum"))
