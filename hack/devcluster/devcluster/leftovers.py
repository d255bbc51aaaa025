"""Removes what outlives the programs: containers, mounts, network, cgroups. For `down`, and for `up` after a crash."""

import os
import shutil
import signal
import time
from pathlib import Path

from devcluster.network import remove_network
from devcluster.settings import Paths
from devcluster.shell import DevclusterError, succeeds

CGROUPS = Path("/sys/fs/cgroup")


def remove_leftovers(paths: Paths) -> None:
    """Leaves nothing of a stopped cluster on the machine but its state folder."""
    kill_containers(paths)
    unmount_below(paths.state)
    # Both describe containers that no longer run; containerd and the address plugin believe what they find.
    shutil.rmtree(paths.containerd / "state", ignore_errors=True)
    shutil.rmtree(paths.cni / "addresses", ignore_errors=True)
    remove_network()
    _remove_cgroups()
    _remove_links()


def kill_containers(paths: Paths) -> None:
    """Containers have no parent among our programs but a shim each, which survives containerd on purpose."""
    deadline = time.monotonic() + 20
    while shims := _shims(paths):
        if time.monotonic() > deadline:
            raise DevclusterError(f"containers do not end (shim pids {shims})")
        children = _children()
        for shim in shims:
            for pid in [*_descendants(shim, children), shim]:
                _kill(pid)
        time.sleep(0.1)


def unmount_below(folder: Path) -> None:
    for target in mounts_below(folder, Path("/proc/self/mountinfo").read_text()):
        if not (succeeds(["umount", target]) or succeeds(["umount", "--lazy", target])):
            raise DevclusterError(f"cannot unmount {target}")


def mounts_below(folder: Path, mountinfo: str) -> list[str]:
    """Mount points under a folder, innermost and last mounted first."""
    targets = [_unescape(line.split()[4]) for line in mountinfo.splitlines()]
    return [target for target in reversed(targets) if target.startswith(f"{folder}/")]


def _unescape(text: str) -> str:
    """The kernel writes spaces and the like as octal escapes."""
    return text.encode().decode("unicode_escape") if "\\" in text else text


def _shims(paths: Paths) -> list[int]:
    marker = str(paths.containerd_socket)
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            words = _command_line(process)
            if words and words[0].endswith("containerd-shim-runc-v2") and marker in words:
                found.append(int(process.name))
    return found


def _command_line(process: Path) -> list[str]:
    try:
        return (process / "cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def _children() -> dict[int, list[int]]:
    table: dict[int, list[int]] = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                text = (process / "stat").read_text()
            except OSError:
                continue
            table.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(process.name))
    return table


def _descendants(pid: int, children: dict[int, list[int]]) -> list[int]:
    direct = children.get(pid, [])
    return direct + [deeper for child in direct for deeper in _descendants(child, children)]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _remove_cgroups() -> None:
    """Empty ones only (rmdir refuses others): kubelet's tree, in each hierarchy of version 1 or the one of 2."""
    for tree in [CGROUPS / "kubepods", *CGROUPS.glob("*/kubepods")]:
        for folder, _, _ in os.walk(tree, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError:
                continue


def _remove_links() -> None:
    """kubelet's links to the logs of containers, the only thing that it writes outside its folder."""
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and not link.exists():
            link.unlink()
