"""The node's programs (containerd, kubelet, kube-proxy, DNS): their configuration, and how each is started."""

import json
from pathlib import Path

from devcluster.health import http_ok, socket_answers
from devcluster.processes import Component
from devcluster.settings import (
    BRIDGE,
    BRIDGE_IP,
    DNS_SERVICE_IP,
    LOOPBACK,
    NODE_NAME,
    POD_CIDR,
    REGISTRY,
    Paths,
)

PAUSE_IMAGE = "localhost/lora-pause:1"
CNI_BINARIES = "/usr/lib/cni"  # where Debian puts them

# root, state and sockets of our own: a containerd of the distribution may run beside it.
CONTAINERD_TOML = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
[grpc]
address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
# A container's score may not fall below that of the daemon, which may not lower its own in a sandbox.
restrict_oom_score_adj = true
# Network namespaces under our state folder are known to be ours, so that they can be removed.
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni_binaries}"
conf_dir = "{cni}/net.d"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{folder}/registries"
[plugins."io.containerd.grpc.v1.cri".containerd]
# The registry beside it has the layers too; a second copy of some GiB helps nobody.
discard_unpacked_layers = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"""


def write_node_config(paths: Paths) -> None:
    """Every file that the node's programs read at their start."""
    _write(paths.containerd / "config.toml", _containerd_config(paths))
    _write(
        paths.containerd / "registries" / REGISTRY / "hosts.toml",
        f'server = "http://{REGISTRY}"\n[host."http://{REGISTRY}"]\ncapabilities = ["pull", "resolve"]\n',
    )
    _write(paths.cni / "net.d" / "10-lora.conflist", json.dumps(_cni_config(paths)))
    _write(paths.state / "kubelet.json", json.dumps(_kubelet_config(paths)))
    _write(paths.state / "kube-proxy.json", json.dumps(_kube_proxy_config(paths)))
    _write(paths.state / "Corefile", _corefile(paths, Path("/etc/resolv.conf").read_text()))


def containerd(paths: Paths) -> Component:
    argv = ["containerd", f"--config={paths.containerd / 'config.toml'}"]
    return Component("containerd", argv, (), lambda: socket_answers(paths.containerd_socket))


def kubelet(paths: Paths) -> Component:
    argv = [
        paths.binary("kubelet"),
        f"--config={paths.state / 'kubelet.json'}",
        f"--kubeconfig={paths.pki / 'kubelet.kubeconfig'}",
        f"--root-dir={paths.state / 'kubelet'}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={BRIDGE_IP}",
    ]
    listens = (("0.0.0.0", 10250), (LOOPBACK, 10248))  # noqa: S104 - compared with what is taken
    return Component("kubelet", argv, listens, lambda: http_ok(f"http://{LOOPBACK}:10248/healthz"))


def kube_proxy(paths: Paths) -> Component:
    argv = [
        paths.binary("kube-proxy"),
        f"--config={paths.state / 'kube-proxy.json'}",
        f"--hostname-override={NODE_NAME}",
    ]
    listens = ((LOOPBACK, 10256), (LOOPBACK, 10249))
    return Component("kube-proxy", argv, listens, lambda: http_ok(f"http://{LOOPBACK}:10256/livez"))


def coredns(paths: Paths) -> Component:
    argv = [paths.binary("coredns"), "-conf", str(paths.state / "Corefile")]
    listens = ((BRIDGE_IP, 53), (LOOPBACK, 8181))
    return Component("coredns", argv, listens, lambda: http_ok(f"http://{LOOPBACK}:8181/ready"))


def _containerd_config(paths: Paths) -> str:
    return CONTAINERD_TOML.format(
        folder=paths.containerd,
        socket=paths.containerd_socket,
        pause=PAUSE_IMAGE,
        cni_binaries=CNI_BINARIES,
        cni=paths.cni,
    )


def _cni_config(paths: Paths) -> dict[str, object]:
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": POD_CIDR}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(paths.cni / "addresses"),
    }
    # hairpin: a pod may reach itself through its Service. Masquerading is one rule of ours, see network.py.
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "hairpinMode": True, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "lora-devcluster", "plugins": [bridge]}


def _kubelet_config(paths: Paths) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{paths.containerd_socket}",
        "authentication": {"x509": {"clientCAFile": str(paths.pki / "ca.crt")}},
        "tlsCertFile": str(paths.pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(paths.pki / "kubelet.key"),
        "clusterDomain": "cluster.local",
        "clusterDNS": [DNS_SERVICE_IP],
        "resolvConf": "/dev/null",  # the host's search domains are nothing that a test should depend on
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        # The machine is shared, its disk often nearly full: absolute and small, not the usual 10 to 15 %.
        "evictionHard": {
            "memory.available": "200Mi",
            "nodefs.available": "1Gi",
            "imagefs.available": "1Gi",
            "nodefs.inodesFree": "1%",
        },
        "imageGCHighThresholdPercent": 100,  # off: a collected image would be missing in the middle of a test
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": False,
        "makeIPTablesUtilChains": False,
        "podLogsDir": str(paths.state / "pod-logs"),
        "volumePluginDir": str(paths.state / "kubelet-plugins"),
    }


def _kube_proxy_config(paths: Paths) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(paths.pki / "kube-proxy.kubeconfig")},
        "mode": "iptables",
        "iptables": {"localhostNodePorts": False},  # would loosen a sysctl of the host (route_localnet)
        "clusterCIDR": POD_CIDR,
        "bindAddress": BRIDGE_IP,
        "healthzBindAddress": f"{LOOPBACK}:10256",
        "metricsBindAddress": f"{LOOPBACK}:10249",
        # Left as they are: they are limits of the whole machine, and often not ours to set.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def _corefile(paths: Paths, resolv_conf: str) -> str:
    kubernetes = (
        "  kubernetes cluster.local in-addr.arpa ip6.arpa {\n"
        f"    kubeconfig {paths.pki / 'coredns.kubeconfig'}\n"
        "    fallthrough in-addr.arpa ip6.arpa\n"
        "  }\n"
    )
    has_server = any(line.startswith("nameserver") for line in resolv_conf.splitlines())
    forward = "  forward . /etc/resolv.conf\n" if has_server else ""
    # A short TTL: tests delete and make Services of the same name.
    return f".:53 {{\n  bind {BRIDGE_IP}\n  ready {LOOPBACK}:8181\n  errors\n  cache 5\n{kubernetes}{forward}}}\n"


def _write(file: Path, text: str) -> None:
    """Only a change: kube-proxy ends when its file is written, even with the same content."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists() or file.read_text() != text:
        file.write_text(text)
