"""Helm and actionlint are pinned beside the cluster's programs, and apart from them."""

from pathlib import Path

import pytest

from devcluster.binaries import required_version
from devcluster.settings import MODULE_DIR, Paths, cache_key
from devcluster.shell import DevclusterError
from devcluster.tools import ACTIONLINT, HELM, TOOLS, Tool, ensure_tool, tool_path


@pytest.mark.parametrize(("tool", "version"), [(HELM, "v4."), (ACTIONLINT, "v1.")], ids=["helm", "actionlint"])
def test_a_tool_is_required_by_the_module_that_builds_it(tool: Tool, version: str) -> None:
    assert tool.version.startswith(version)
    assert tool.package.startswith(f"{tool.module}/")
    assert f'import _ "{tool.package}"' in (tool.module_dir / "tools.go").read_text()


def test_what_a_module_does_not_require_is_an_error() -> None:
    with pytest.raises(DevclusterError, match=r"go\.mod requires no helm\.sh/helm"):
        required_version(MODULE_DIR, HELM.module)


@pytest.mark.parametrize("tool", TOOLS.values(), ids=lambda tool: tool.name)
def test_a_tool_and_the_cluster_s_programs_are_built_anew_independently(tool: Tool) -> None:
    where = Paths(state=Path("/state"), binaries=Path("/cache/cluster"))
    found = tool_path(tool, where)
    assert found.parent.parent == where.binaries.parent
    assert found.parent.name == f"{tool.name}-{cache_key(tool.module_dir, ('go.mod', 'go.sum'))}"
    assert cache_key(MODULE_DIR) != cache_key(MODULE_DIR, ("go.mod", "go.sum"))


def test_a_tool_that_is_there_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = Paths(state=tmp_path / "state", binaries=tmp_path / "cache" / "cluster")
    target = tool_path(ACTIONLINT, where)
    target.parent.mkdir(parents=True)
    target.write_text("built before")
    monkeypatch.setenv("PATH", str(tmp_path))  # without Go
    assert ensure_tool(ACTIONLINT, where).read_text() == "built before"
    assert ensure_tool(ACTIONLINT, where) == target
