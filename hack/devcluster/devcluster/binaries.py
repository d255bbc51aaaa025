"""Builds the cluster's programs from the versions in go.mod, once: they are kept outside the tree under a key of it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from devcluster.settings import MODULE_DIR, Paths
from devcluster.shell import DevclusterError, run, step

# In this order: what the integration tests need comes first.
PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "versitygw": "github.com/versity/versitygw/cmd/versitygw",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kubelet": "k8s.io/kubernetes/cmd/kubelet",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
    "crane": "github.com/google/go-containerregistry/cmd/crane",
    "coredns": "./coredns",
}
CONTROL_PLANE = ("etcd", "kube-apiserver", "versitygw", "kubectl", "kube-controller-manager")
BUILD_DISK_GIB = 8  # module and build cache of a cold build are about 6 GiB


def ensure_binaries(paths: Paths, names: tuple[str, ...]) -> None:
    """Builds what the cache lacks."""
    missing = [name for name in PACKAGES if name in names and not (paths.binaries / name).exists()]
    if not missing:
        return
    paths.binaries.mkdir(parents=True, exist_ok=True)
    need_disk(paths.binaries, BUILD_DISK_GIB, "to build the cluster's programs")
    for name in missing:
        with step(f"built {name}"):
            build(MODULE_DIR, PACKAGES[name], paths.binaries / name, _linker_flags())


def need_disk(folder: Path, gib: int, why: str) -> None:
    """Fails early rather than in the middle of a long write."""
    free = shutil.disk_usage(folder).free / 2**30
    if free < gib:
        raise DevclusterError(f"disk too small: {gib} GiB free needed in {folder} {why}, {free:.0f} GiB are")


def build(module_dir: Path, package: str, target: Path, linker_flags: str) -> None:
    """Builds one program from the versions of a module."""
    _check_go(module_dir)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", linker_flags]
    environment = {**os.environ, "CGO_ENABLED": "0"}
    run(
        ["go", "build", *flags, "-o", str(unfinished), package],
        env=environment,
        cwd=str(module_dir),
    )
    unfinished.rename(target)  # a build that was cut off leaves no half binary under this name


def _linker_flags() -> str:
    """Kubernetes reports v0.0.0 unless its version is stamped in, and clients act on it."""
    version = required_version(MODULE_DIR, "k8s.io/kubernetes")
    major, minor = version.removeprefix("v").split(".")[:2]
    package = "k8s.io/component-base/version"
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    return " ".join(["-s -w", *(f"-X {package}.{key}={value}" for key, value in stamps.items())])


def required_version(module_dir: Path, module: str) -> str:
    """The version of a module that the go.mod of a folder requires."""
    found = re.search(rf"^(?:require)?\s*{re.escape(module)} (v\S+)", (module_dir / "go.mod").read_text(), re.MULTILINE)
    if not found:
        raise DevclusterError(f"go.mod requires no {module}")
    return found[1]


def _check_go(module_dir: Path) -> None:
    wanted = re.search(r"^go (\d+)\.(\d+)", (module_dir / "go.mod").read_text(), re.MULTILINE)
    try:
        text = subprocess.run(["go", "version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise DevclusterError("Go is missing: the cluster's programs are built with it (https://go.dev/dl)") from error
    found = re.search(r"go(\d+)\.(\d+)", text)
    if wanted and found and (int(found[1]), int(found[2])) < (int(wanted[1]), int(wanted[2])):
        raise DevclusterError(f"Go is too old: {wanted[1]}.{wanted[2]} needed, {found[1]}.{found[2]} found")
