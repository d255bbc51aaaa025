"""NetworkPolicies for trainer pods and for the operator.

Pure: openings in, objects out. A NetworkPolicy knows addresses, ports and labels, and no host names. "S3 and the hub"
can only be written as addresses and ports; whoever knows those of a cluster names them.
"""

import ipaddress
from dataclasses import dataclass
from typing import Any

from generate.install import HEALTH_PORT, LABELS, METRICS_PORT, NAMESPACE
from generate.webhook import WEBHOOK_PORT
from lora_api.names import (
    AGENT_PORT,
    COMPONENT_LABEL,
    FIELD_MANAGER,
    GROUP,
    INJECT_LABEL,
    MANAGED_BY_LABEL,
    PROGRESS_PORT,
)

TRAINER_LABELS = {MANAGED_BY_LABEL: FIELD_MANAGER, COMPONENT_LABEL: "trainer"}
METRICS_LABEL = {f"{GROUP}/metrics": "true"}
"""On a namespace whose pods (Prometheus) may read metrics."""
NAMESPACE_LABEL = "kubernetes.io/metadata.name"
API_SERVER_PORTS = (443, 6443)
NODE_LOCAL_DNS = "169.254.20.10/32"

Object = dict[str, Any]


@dataclass(frozen=True)
class Opening:
    """Addresses and a port that trainer pods may reach."""

    cidr: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Opening":
        """Read `CIDR:PORT`, such as 10.1.2.0/24:9000 or [fd00::]/8:443. Raises `ValueError`."""
        cidr, _, port = text.replace("[", "").replace("]", "").rpartition(":")
        network = ipaddress.ip_network(cidr)
        if not 0 < int(port) < 65536:
            raise ValueError(f"{port}: is no port")
        return cls(str(network), int(port))


ANYWHERE = (Opening("0.0.0.0/0", 443), Opening("::/0", 443))
"""The default: S3, the hub and identity services of the clouds all speak TLS on 443, at addresses that change."""


def trainer_policy(namespace: str | None = None, openings: tuple[Opening, ...] = ANYWHERE) -> Object:
    """Return the policy for the trainer pods of one namespace; without a name it is for `kubectl apply -n`."""
    return _policy(
        "lora-trainer",
        namespace,
        TRAINER_LABELS,
        ingress=[
            _rule("from", [{"namespaceSelector": _named(NAMESPACE), "podSelector": _labelled(LABELS)}], PROGRESS_PORT),
            _rule("from", [{"namespaceSelector": _labelled(METRICS_LABEL)}], PROGRESS_PORT),
            _rule("from", [{"podSelector": _labelled(TRAINER_LABELS)}]),
        ],
        egress=[
            _dns(),
            *(_rule("to", [{"ipBlock": {"cidr": each.cidr}}], each.port) for each in openings),
            _rule("to", [{"podSelector": _labelled(TRAINER_LABELS)}]),
        ],
    )


def operator_policy() -> Object:
    """Return the policy for the operator's own pods."""
    trainers = {"namespaceSelector": {}, "podSelector": _labelled(TRAINER_LABELS)}
    agents = {"namespaceSelector": {}, "podSelector": _labelled({INJECT_LABEL: "true"})}
    return _policy(
        "lora-operator",
        NAMESPACE,
        LABELS,
        ingress=[
            {"ports": [_port(HEALTH_PORT)]},  # the kubelet's address is that of the node, which nothing here knows
            {"ports": [_port(WEBHOOK_PORT)]},  # nor is that of the API server
            _rule("from", [{"namespaceSelector": _labelled(METRICS_LABEL)}], METRICS_PORT),
        ],
        egress=[
            _dns(),
            {"ports": [_port(each) for each in API_SERVER_PORTS]},
            _rule("to", [trainers], PROGRESS_PORT),
            _rule("to", [agents], AGENT_PORT),
        ],
    )


def _policy(
    name: str, namespace: str | None, pods: dict[str, str], ingress: list[Object], egress: list[Object]
) -> Object:
    metadata: Object = {"name": name} | ({"namespace": namespace} if namespace else {}) | {"labels": LABELS}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": {
            "podSelector": _labelled(pods),
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    }


def _rule(direction: str, peers: list[Object], *ports: int) -> Object:
    return {direction: peers} | ({"ports": [_port(each) for each in ports]} if ports else {})


def _port(number: int, protocol: str = "TCP") -> Object:
    return {"protocol": protocol, "port": number}


def _dns() -> Object:
    """Return the way to the cluster's DNS: its pods, and the cache that some clusters run on each node."""
    peers = [{"namespaceSelector": _named("kube-system")}, {"ipBlock": {"cidr": NODE_LOCAL_DNS}}]
    return {"to": peers, "ports": [_port(53, "UDP"), _port(53)]}


def _labelled(labels: dict[str, str]) -> Object:
    return {"matchLabels": labels}


def _named(namespace: str) -> Object:
    return _labelled({NAMESPACE_LABEL: namespace})
