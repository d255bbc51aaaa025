"""The programs: the control plane of the local cluster, and kwok, Trainer and JobSet, built once from their go.mod.

Built programs are kept outside the tree under the hash of what they were built from.
"""

import hashlib
import json
import os
import subprocess
from functools import cache
from pathlib import Path

from bench.trainer.report import say
from support.apiserver import find_binaries

_TOOLS = Path(__file__).with_name("tools")
_PACKAGES = {
    "kwok": ("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "trainer-controller-manager": ("trainer", "github.com/kubeflow/trainer/v2/cmd/trainer-controller-manager"),
    "jobset": ("trainer", "sigs.k8s.io/jobset"),
}
"""Program: folder of its go.mod, and package."""
_CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
_FLAGS = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w"]


def program(name: str) -> str:
    """Return the path of a program; build it if need be."""
    return _built(name) if name in _PACKAGES else str(_control_plane() / name)


def module_folder(tool: str, module: str) -> Path:
    """Return the folder of a module that a tool's go.mod names: manifests lie in it. It is fetched if need be."""
    text = _run(["go", "mod", "download", "-json", module], _TOOLS / tool)
    return Path(json.loads(text)["Dir"])


@cache
def _control_plane() -> Path:
    found = find_binaries()
    if found is None or any(not (found / name).exists() for name in _CONTROL_PLANE):
        raise FileNotFoundError(f"{', '.join(_CONTROL_PLANE)} are not there: run `python3 hack/devcluster up` once")
    return found


def _built(name: str) -> str:
    folder, package = _PACKAGES[name]
    target = _cache() / f"{folder}-{_key(_TOOLS / folder)}" / name
    if not target.exists():
        say(f"builds {name}, which takes some minutes the first time")
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{name}.{os.getpid()}")
        _run(["go", "build", *_FLAGS, "-o", str(unfinished), package], _TOOLS / folder)
        unfinished.rename(target)  # a build that was cut off leaves no half program under this name
    return str(target)


def _key(folder: Path) -> str:
    content = b"".join((folder / name).read_bytes() for name in ("go.mod", "go.sum"))
    return hashlib.sha256(content).hexdigest()[:16]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lora-bench"


def _run(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:2])} failed in {folder.name}: {done.stderr.strip()[-500:]}")
    return done.stdout
