"""What the machine must have: root, cgroups, overlay, and Debian packages, which are installed if they are missing."""

import os
import shutil
from pathlib import Path

from devcluster.shell import DevclusterError, run, step, succeeds

# The file that shows that a package is there.
NODE_PACKAGES = {
    "containerd": "/usr/bin/containerd",
    "runc": "/usr/sbin/runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "/usr/sbin/iptables",
    "conntrack": "/usr/sbin/conntrack",
    "iproute2": "/usr/sbin/ip",
    "kmod": "/usr/sbin/modprobe",
    "openssl": "/usr/bin/openssl",
    "gcc": "/usr/bin/gcc",
    "libc6-dev": "/usr/include/stdio.h",
}
CONTROL_PLANE_PACKAGES = {"openssl": "/usr/bin/openssl"}
IMAGE_PACKAGES = {
    "buildah": "/usr/bin/buildah",
    "debootstrap": "/usr/sbin/debootstrap",
    "ca-certificates": "/etc/ssl/certs/ca-certificates.crt",
}
CONTROLLERS = ("cpu", "cpuset", "memory", "pids")


def ensure_packages(packages: dict[str, str]) -> None:
    """`apt-get update` and install once, and only if a file is missing."""
    missing = [name for name, file in packages.items() if not Path(file).exists() and not _in_path(file)]
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise DevclusterError(f"missing: {' '.join(missing)} (installed by itself on Debian only)")
    if os.geteuid() != 0:
        raise DevclusterError(f"missing: {' '.join(missing)}; install them or run as root")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with step(f"installed {' '.join(missing)}"):
        run(["apt-get", "update", "-q"], env=environment)
        run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing], env=environment)


def check_node_support() -> None:
    """What no package can mend."""
    if os.geteuid() != 0:
        raise DevclusterError("not root: a node needs root (`up --control-plane` does not)")
    if "overlay" not in Path("/proc/filesystems").read_text() and not succeeds(["modprobe", "overlay"]):
        raise DevclusterError("the kernel has no overlay file system")
    lacking = [name for name in CONTROLLERS if name not in _controllers()]
    if lacking:
        raise DevclusterError(f"no cgroup controller {', '.join(lacking)}: mount cgroups, or leave the container")
    if not Path("/dev/kmsg").exists():
        raise DevclusterError("/dev/kmsg is missing, which kubelet reads")


def _controllers() -> set[str]:
    """Version 2 lists them in a file, version 1 mounts one hierarchy each."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    if unified.exists():
        return set(unified.read_text().split())
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return {option for fields in mounts if fields[2] == "cgroup" for option in fields[3].split(",")}


def _in_path(file: str) -> bool:
    return shutil.which(Path(file).name) is not None
