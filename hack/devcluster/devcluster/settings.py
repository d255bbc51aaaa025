"""Where everything lies: the folders, addresses and ports that the other modules share. Decides nothing else."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

MODULE_DIR = Path(__file__).resolve().parent.parent
REPOSITORY = MODULE_DIR.parent.parent

NODE_NAME = "devcluster"
BRIDGE = "lora0"  # a name of our own: whatever bears it may be deleted
POD_CIDR = "10.244.0.0/24"
BRIDGE_IP = "10.244.0.1"  # the host as pods see it: API server, S3 and DNS answer there
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_IP = "10.96.0.1"
DNS_SERVICE_IP = "10.96.0.10"
LOOPBACK = "127.0.0.1"
API_PORT = 6443
ETCD_PORT = 2379
S3_PORT = 7070
REGISTRY = "localhost:5000"
REGISTRY_PORT = 5000
CLUSTER_SOURCES = ("go.mod", "go.sum", "coredns/main.go", "pause/pause.c")  # what the cluster's programs are made of


@dataclass(frozen=True)
class Paths:
    """Folders of one cluster. `state` goes with `down --purge`; `binaries` outlives it."""

    state: Path
    binaries: Path

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def pids(self) -> Path:
        return self.state / "pids"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def containerd(self) -> Path:
        return self.state / "containerd"

    @property
    def containerd_socket(self) -> Path:
        return self.containerd / "containerd.sock"

    @property
    def cni(self) -> Path:
        return self.state / "cni"

    @property
    def images_file(self) -> Path:
        return self.state / "images.json"

    @property
    def s3_env(self) -> Path:
        return self.state / "s3.env"

    def binary(self, name: str) -> str:
        return str(self.binaries / name)


def paths() -> Paths:
    """The folders that the environment chooses, or their defaults."""
    return Paths(state=_state_dir(), binaries=_cache_dir() / cache_key(MODULE_DIR))


def cache_key(module_dir: Path, sources: tuple[str, ...] = CLUSTER_SOURCES) -> str:
    """A name for the set of binaries: changes with any version, checksum or own source file."""
    digest = hashlib.sha256()
    for name in sources:
        content = (module_dir / name).read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def _state_dir() -> Path:
    chosen = os.environ.get("LORA_DEVCLUSTER_STATE")
    if chosen:
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/lora-devcluster")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(base) / "lora-devcluster"


def _cache_dir() -> Path:
    chosen = os.environ.get("LORA_DEVCLUSTER_CACHE")
    if chosen:
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lora-devcluster"
