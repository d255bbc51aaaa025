"""Brings the whole up and down: the order of things, and nothing about any single one of them."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devcluster import control_plane, node, registry
from devcluster.addons import apply_addons, wait_for_node
from devcluster.binaries import CONTROL_PLANE, PACKAGES, ensure_binaries, need_disk
from devcluster.host import CONTROL_PLANE_PACKAGES, NODE_PACKAGES, check_node_support, ensure_packages
from devcluster.images import recorded_images
from devcluster.leftovers import kill_containers, mounts_below, remove_leftovers
from devcluster.network import ensure_network
from devcluster.pause import import_pause_image
from devcluster.pki import ensure_pki
from devcluster.processes import Component, ensure, log_file, read_pid_file, stop
from devcluster.s3 import s3_server
from devcluster.settings import Paths
from devcluster.shell import DevclusterError, say, step

# kubelet first, so that it starts nothing anew; then the containers, whose watches the API server would wait for; the
# API server before etcd, which it needs to end in peace.
STOP_ORDER = (
    "kubelet",
    "containerd",
    "kube-proxy",
    "coredns",
    "kube-scheduler",
    "kube-controller-manager",
    "kube-apiserver",
    "etcd",
    "registry",
    "versitygw",
)
STATE_DISK_GIB = 3  # data of etcd, logs and small images; images.py asks for more


def up(paths: Paths) -> None:
    """The cluster with its node. Running and healthy programs are left alone."""
    check_node_support()
    ensure_packages(NODE_PACKAGES)
    ensure_binaries(paths, tuple(PACKAGES))
    with locked(paths):
        need_disk(paths.state, STATE_DISK_GIB, "for the cluster")
        if not any(read_pid_file(paths, name) for name in STOP_ORDER):
            remove_leftovers(paths)  # nothing of the cluster runs: whatever lies about is from a crash
        with step("cluster is up"):
            _start_all(paths)


def up_control_plane(paths: Paths) -> None:
    """API server and S3 on loopback, without root, for tests that need no pods."""
    if _full_cluster_runs(paths):
        say("the whole cluster is up already")
        return
    ensure_packages(CONTROL_PLANE_PACKAGES)
    ensure_binaries(paths, CONTROL_PLANE)
    with locked(paths):
        ensure_pki(paths)
        control_plane.write_audit_policy(paths)
        ensure(paths, s3_server(paths, with_node=False))
        ensure(paths, control_plane.etcd(paths))
        ensure(paths, control_plane.api_server(paths, with_node=False))
        ensure(paths, control_plane.controller_manager(paths))


def up_s3(paths: Paths) -> None:
    """The S3 server alone."""
    if read_pid_file(paths, "versitygw"):
        say("the S3 server is up already")
        return
    ensure_binaries(paths, ("versitygw",))
    with locked(paths):
        ensure(paths, s3_server(paths, with_node=False))


def down(paths: Paths, *, purge: bool) -> None:
    """Nothing runs, and nothing but the state folder is left, afterwards; with `purge` not even that."""
    if not paths.state.exists():
        say(f"nothing to stop: {paths.state} does not exist")
        return
    with locked(paths):
        for name in STOP_ORDER:
            if name == "containerd":
                kill_containers(paths)
            if read_pid_file(paths, name):
                with step(f"stopped {name}"):
                    stop(paths, name)
        if _had_node(paths):
            remove_leftovers(paths)
    if purge:
        _purge(paths)


def status(paths: Paths) -> bool:
    """Prints a line for each program; returns whether all of them run."""
    running = {name: read_pid_file(paths, name) for name in STOP_ORDER}
    for name, recorded in reversed(running.items()):
        state = f"pid {recorded.pid}" if recorded else "down"
        print(f"{name:<24} {state:<12} {log_file(paths, name)}")
    for name, reference in recorded_images(paths).items():
        print(f"{name:<24} {'image':<12} {reference}")
    return all(running.values())


@contextmanager
def locked(paths: Paths, what: str = "cluster") -> Iterator[None]:
    """One command at a time on the same thing: a second one waits, then finds the work done."""
    paths.state.mkdir(parents=True, exist_ok=True)
    with (paths.state / f"{what}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another devcluster command to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start_all(paths: Paths) -> None:
    ensure_pki(paths)
    control_plane.write_audit_policy(paths)
    node.write_node_config(paths)
    ensure_network()
    ensure(paths, s3_server(paths, with_node=True))
    if ensure(paths, registry.registry(paths)):
        registry.restore_manifests(paths, list(recorded_images(paths).values()))
    ensure(paths, node.containerd(paths))
    import_pause_image(paths)
    for component in _kubernetes(paths):
        ensure(paths, component)
    apply_addons(paths)
    ensure(paths, node.coredns(paths))
    wait_for_node(paths)


def _kubernetes(paths: Paths) -> list[Component]:
    return [
        control_plane.etcd(paths),
        control_plane.api_server(paths, with_node=True),
        control_plane.controller_manager(paths),
        control_plane.scheduler(paths),
        node.kubelet(paths),
        node.kube_proxy(paths),  # waits for the Node object, which kubelet makes
    ]


def _full_cluster_runs(paths: Paths) -> bool:
    return read_pid_file(paths, "kubelet") is not None and read_pid_file(paths, "kube-apiserver") is not None


def _had_node(paths: Paths) -> bool:
    return paths.containerd.exists()


def _purge(paths: Paths) -> None:
    mounted = mounts_below(paths.state, Path("/proc/self/mountinfo").read_text())
    if mounted:  # deleting through a mount would delete someone else's files
        raise DevclusterError(f"not purged: {mounted[0]} is still mounted")
    with step(f"removed {paths.state}"):
        shutil.rmtree(paths.state)
