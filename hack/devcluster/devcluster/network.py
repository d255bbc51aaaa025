"""The bridge between host and pods, and the packet rules: made before the first pod, removed without a trace."""

import ipaddress
from pathlib import Path

from devcluster.settings import BRIDGE, BRIDGE_IP, POD_CIDR
from devcluster.shell import DevclusterError, run, succeeds

COMMENT = "lora-devcluster"
SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/bridge/bridge-nf-call-iptables",  # else the answer of a pod on the same bridge skips the Service's rules
)


def ensure_network() -> None:
    """Bridge with the host's address, forwarding, and a way out for pods."""
    succeeds(["modprobe", "br_netfilter"])  # may be built in; the file below tells
    for name in SYSCTLS:
        _set_sysctl(Path("/proc/sys") / name)
    if not succeeds(["ip", "link", "show", BRIDGE]):
        run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    prefix = ipaddress.ip_network(POD_CIDR).prefixlen
    run(["ip", "address", "replace", f"{BRIDGE_IP}/{prefix}", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])
    for rule in _rules():
        table, chain, *match = rule
        if not succeeds(["iptables", "-w", "-t", table, "-C", chain, *match]):
            run(["iptables", "-w", "-t", table, "-I", chain, *match])


def remove_network() -> None:
    """Also what kube-proxy and kubelet wrote: they leave their chains behind."""
    if succeeds(["ip", "link", "show", BRIDGE]):
        run(["ip", "link", "delete", BRIDGE])
    for family in ("iptables", "ip6tables"):
        if not succeeds([f"{family}-save"]):
            continue
        before = run([f"{family}-save"])
        after = without_cluster_rules(before)
        if after != before:
            run([f"{family}-restore", "-w"], stdin=after)


def without_cluster_rules(saved: str) -> str:
    """The output of iptables-save less every chain and rule of the cluster."""
    ours = (":KUBE-", "-A KUBE-")
    kept = [
        line
        for line in saved.splitlines()
        if not line.startswith(ours) and "-j KUBE-" not in line and COMMENT not in line
    ]
    return "\n".join(kept) + "\n" if kept else ""


def _rules() -> list[list[str]]:
    comment = ["-m", "comment", "--comment", COMMENT]
    return [
        ["nat", "POSTROUTING", "-s", POD_CIDR, "!", "-d", POD_CIDR, *comment, "-j", "MASQUERADE"],
        ["filter", "FORWARD", "-i", BRIDGE, *comment, "-j", "ACCEPT"],  # other software may drop by default
        ["filter", "FORWARD", "-o", BRIDGE, *comment, "-j", "ACCEPT"],
    ]


def _set_sysctl(file: Path) -> None:
    if not file.exists():
        raise DevclusterError(f"the kernel has no {file}: load its module (br_netfilter for net/bridge)")
    if file.read_text().strip() == "1":
        return
    try:
        file.write_text("1\n")
    except OSError as error:
        raise DevclusterError(f"{file} must be 1 and cannot be set: {error.strerror}") from error
