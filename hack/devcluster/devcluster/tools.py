"""Builds programs that no cluster is made of: Helm for the chart, actionlint for the tests of the workflows.

Each has a module of its own, and is built only for who asks. Helm wants a later client of Kubernetes than the cluster's
release has, and a new version of such a program must not build the whole cluster anew.
"""

from dataclasses import dataclass
from pathlib import Path

from devcluster.binaries import build, need_disk, required_version
from devcluster.settings import MODULE_DIR, Paths, cache_key
from devcluster.shell import step


@dataclass(frozen=True)
class Tool:
    """One such program: the folder of its module has its name."""

    name: str
    what_for: str
    module: str
    package: str
    version_variable: str
    """The program does not know its own version unless that is stamped in."""
    build_disk_gib: int
    """What module and build cache of a cold build take, rounded up."""

    @property
    def module_dir(self) -> Path:
        return MODULE_DIR / self.name

    @property
    def version(self) -> str:
        return required_version(self.module_dir, self.module)


HELM = Tool(
    name="helm",
    what_for="for the chart",
    module="helm.sh/helm/v4",
    package="helm.sh/helm/v4/cmd/helm",
    version_variable="helm.sh/helm/v4/internal/version.version",
    build_disk_gib=3,
)
ACTIONLINT = Tool(
    name="actionlint",
    what_for="for the tests of the workflows",
    module="github.com/rhysd/actionlint",
    package="github.com/rhysd/actionlint/cmd/actionlint",
    version_variable="github.com/rhysd/actionlint.version",
    build_disk_gib=1,
)
TOOLS = {each.name: each for each in (HELM, ACTIONLINT)}


def tool_path(tool: Tool, paths: Paths) -> Path:
    """Where the program is, built or not: beside the cluster's programs, under a key of its own module."""
    key = cache_key(tool.module_dir, ("go.mod", "go.sum"))
    return paths.binaries.parent / f"{tool.name}-{key}" / tool.name


def ensure_tool(tool: Tool, paths: Paths) -> Path:
    """Return the program, built if the cache lacks it."""
    target = tool_path(tool, paths)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        need_disk(target.parent, tool.build_disk_gib, f"to build {tool.name}")
        with step(f"built {tool.name}"):
            build(tool.module_dir, tool.package, target, f"-s -w -X {tool.version_variable}={tool.version}")
    return target
