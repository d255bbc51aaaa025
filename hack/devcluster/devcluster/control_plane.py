"""The programs that need no node: etcd, API server, controller manager, scheduler. Only says how each is started."""

import json
from pathlib import Path

from devcluster.health import http_ok
from devcluster.processes import Component
from devcluster.settings import (
    API_PORT,
    BRIDGE_IP,
    ETCD_PORT,
    LOOPBACK,
    SERVICE_CIDR,
    Paths,
)

EVERYWHERE = "0.0.0.0"  # noqa: S104 - pods reach the API server on the bridge, the host on loopback


def etcd(paths: Paths) -> Component:
    url, peer = f"http://{LOOPBACK}:{ETCD_PORT}", f"http://{LOOPBACK}:{ETCD_PORT + 1}"
    argv = [
        paths.binary("etcd"),
        "--name=devcluster",
        f"--data-dir={paths.state / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=devcluster={peer}",
        "--unsafe-no-fsync",  # the data may go with the machine; tests should not wait for the disk
        "--log-level=warn",
    ]
    return Component("etcd", argv, ((LOOPBACK, ETCD_PORT), (LOOPBACK, ETCD_PORT + 1)), lambda: http_ok(f"{url}/health"))


def api_server(paths: Paths, *, with_node: bool) -> Component:
    address = EVERYWHERE if with_node else LOOPBACK
    argv = [
        paths.binary("kube-apiserver"),
        f"--etcd-servers=http://{LOOPBACK}:{ETCD_PORT}",
        f"--secure-port={API_PORT}",
        f"--bind-address={address}",
        f"--advertise-address={BRIDGE_IP if with_node else LOOPBACK}",
        # Without a node nobody uses the Service, and its endpoint may not be a loopback address.
        f"--endpoint-reconciler-type={'lease' if with_node else 'none'}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        *_api_server_certificates(paths.pki),
        *_audit(paths),
    ]
    ready = f"https://{LOOPBACK}:{API_PORT}/readyz"
    return Component("kube-apiserver", argv, ((address, API_PORT),), lambda: http_ok(ready, paths.pki / "ca.crt"))


def controller_manager(paths: Paths) -> Component:
    argv = [
        paths.binary("kube-controller-manager"),
        f"--kubeconfig={paths.pki / 'kube-controller-manager.kubeconfig'}",
        f"--bind-address={LOOPBACK}",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--root-ca-file={paths.pki / 'ca.crt'}",
        f"--service-account-private-key-file={paths.pki / 'service-account.key'}",
        f"--cluster-signing-cert-file={paths.pki / 'ca.crt'}",
        f"--cluster-signing-key-file={paths.pki / 'ca.key'}",
    ]
    return _with_own_certificate("kube-controller-manager", argv, 10257)


def scheduler(paths: Paths) -> Component:
    argv = [
        paths.binary("kube-scheduler"),
        f"--kubeconfig={paths.pki / 'kube-scheduler.kubeconfig'}",
        f"--bind-address={LOOPBACK}",
        "--leader-elect=false",
    ]
    return _with_own_certificate("kube-scheduler", argv, 10259)


def write_audit_policy(paths: Paths) -> None:
    """Every request once, when it is answered: tests count the operator's writes in the log."""
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    }
    paths.logs.mkdir(parents=True, exist_ok=True)
    _audit_policy(paths).write_text(json.dumps(policy))


def _with_own_certificate(name: str, argv: list[str], port: int) -> Component:
    return Component(name, argv, ((LOOPBACK, port),), lambda: http_ok(f"https://{LOOPBACK}:{port}/healthz"))


def _api_server_certificates(pki: Path) -> list[str]:
    return [
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",  # no DNS knows the node's name: logs and exec would fail
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki / 'service-account.key'}",
        f"--service-account-signing-key-file={pki / 'service-account.key'}",
    ]


def _audit(paths: Paths) -> list[str]:
    return [
        f"--audit-policy-file={_audit_policy(paths)}",
        f"--audit-log-path={paths.logs / 'audit.log'}",
        "--audit-log-maxsize=200",  # MiB
        "--audit-log-maxbackup=1",
    ]


def _audit_policy(paths: Paths) -> Path:
    return paths.state / "audit-policy.json"
