"""What the cluster needs inside: the DNS Service and the DNS server's right to read. And the wait for the node."""

import json
import time

from devcluster.settings import BRIDGE_IP, DNS_SERVICE_IP, NODE_NAME, Paths
from devcluster.shell import DevclusterError, run, succeeds

NODE_READY_SECONDS = 60


def kubectl(paths: Paths, *arguments: str, stdin: str | None = None, timeout: float = 60) -> str:
    """kubectl with the administrator's kubeconfig of this cluster."""
    return run([paths.binary("kubectl"), f"--kubeconfig={paths.kubeconfig}", *arguments], stdin=stdin, timeout=timeout)


def apply_addons(paths: Paths) -> None:
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": _dns_service() + _dns_rights()})
    kubectl(paths, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)


def wait_for_node(paths: Paths) -> None:
    """Until pods can be scheduled on it, and the default ServiceAccount that each pod needs is there."""
    query = [paths.binary("kubectl"), f"--kubeconfig={paths.kubeconfig}"]
    ready = [*query, "wait", "--for=condition=Ready", f"node/{NODE_NAME}", "--timeout=1s"]
    account = [*query, "get", "serviceaccount", "default"]
    deadline = time.monotonic() + NODE_READY_SECONDS
    while not (succeeds(ready) and succeeds(account)):
        if time.monotonic() > deadline:
            raise DevclusterError(f"the node is not ready: see {paths.logs / 'kubelet.log'}")
        time.sleep(0.2)


def _dns_service() -> list[dict[str, object]]:
    """CoreDNS is a process of the host, so no selector finds it: the endpoint is written by hand."""
    both = ((name, protocol) for name, protocol in (("dns", "UDP"), ("dns-tcp", "TCP")))
    ports = [{"name": name, "port": 53, "protocol": protocol} for name, protocol in both]
    metadata = {"name": "kube-dns", "namespace": "kube-system"}
    service: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**metadata, "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIP": DNS_SERVICE_IP, "ports": ports},
    }
    endpoints: dict[str, object] = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [BRIDGE_IP], "conditions": {"ready": True}}],
        "ports": ports,
    }
    return [service, endpoints]


def _dns_rights() -> list[dict[str, object]]:
    group = "rbac.authorization.k8s.io"
    name = "lora-devcluster-coredns"
    read = ["list", "watch"]
    rules: list[object] = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": read},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
    ]
    role: dict[str, object] = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    }
    binding: dict[str, object] = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": group, "kind": "User", "name": name}],
    }
    return [role, binding]
