"""The objects that install the web dashboard, which is optional: an account that may read, a Deployment, a Service.

Pure. `manifests/dashboard.yaml` is this with the released image, for all namespaces. The page has no password of its
own, so a NetworkPolicy lets in only pods of namespaces that carry a label, and the account can do nothing but read.
"""

from dataclasses import dataclass
from typing import Any, Literal

from generate.install import NAMESPACE, OPERATOR_IMAGE, RBAC_GROUP
from lora_api.names import GROUP

NAME = "lora-operator-dashboard"
"""Of every object, as a release of the chart called lora-operator names them."""
LABELS = {"app.kubernetes.io/name": "lora-operator", "app.kubernetes.io/component": "dashboard"}
PORT = 8080
HEALTH_PORT = 8081
SERVICE_PORT = 80
VIEWERS_LABEL = {f"{GROUP}/dashboard": "true"}
"""On a namespace whose pods (an ingress controller, a proxy with a login) may reach the page."""
RULES = [{"apiGroups": [GROUP], "resources": ["lorajobs", "loraadapters"], "verbs": ["get", "list", "watch"]}]

Object = dict[str, Any]


@dataclass(frozen=True)
class Dashboard:
    """What differs from one cluster to the next."""

    image: str = OPERATOR_IMAGE
    namespaces: tuple[str, ...] = ()
    """Namespaces to show; none means all."""
    auth: Literal["serviceaccount", "passthrough"] = "serviceaccount"
    """Whose rights decide. With `passthrough` the account has none at all."""
    hosts: tuple[str, ...] = ()
    """Names of the page outside the cluster."""


def dashboard_objects(dashboard: Dashboard | None = None) -> list[Object]:
    """Return every object, in the order in which they are applied."""
    wanted = dashboard or Dashboard()
    reads = wanted.auth == "serviceaccount"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta(NAMESPACE)},
        *(_rights(wanted.namespaces) if reads else []),
        _policy(),
        _service(),
        _deployment(wanted),
    ]


def _meta(namespace: str | None = None) -> Object:
    return {"name": NAME} | ({"namespace": namespace} if namespace else {}) | {"labels": LABELS}


def _rights(namespaces: tuple[str, ...]) -> list[Object]:
    return [made for each in namespaces or (None,) for made in (_role(each), _binding(each))]


def _role(namespace: str | None) -> Object:
    kind = "Role" if namespace else "ClusterRole"
    return {"apiVersion": f"{RBAC_GROUP}/v1", "kind": kind, "metadata": _meta(namespace), "rules": RULES}


def _binding(namespace: str | None) -> Object:
    kind = "Role" if namespace else "ClusterRole"
    return {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": f"{kind}Binding",
        "metadata": _meta(namespace),
        "roleRef": {"apiGroup": RBAC_GROUP, "kind": kind, "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    }


def _policy() -> Object:
    """Return who may reach the page. The probes have a port of their own: a kubelet's address is not known here."""
    viewers = [{"namespaceSelector": {"matchLabels": VIEWERS_LABEL}}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _meta(NAMESPACE),
        "spec": {
            "podSelector": {"matchLabels": LABELS},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": viewers, "ports": [{"protocol": "TCP", "port": PORT}]},
                {"ports": [{"protocol": "TCP", "port": HEALTH_PORT}]},
            ],
        },
    }


def _service() -> Object:
    port = {"name": "http", "port": SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}
    spec = {"selector": LABELS, "ports": [port]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _meta(NAMESPACE), "spec": spec}


def _deployment(wanted: Dashboard) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(NAMESPACE),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": _pod(wanted)},
        },
    }


def _pod(wanted: Dashboard) -> Object:
    return {
        "serviceAccountName": NAME,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(wanted)],
    }


def _container(wanted: Dashboard) -> Object:
    return {
        "name": "dashboard",
        "image": wanted.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/venv/bin/lora-dashboard"],
        "args": _arguments(wanted),
        "ports": [{"name": "http", "containerPort": PORT}, {"name": "health", "containerPort": HEALTH_PORT}],
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": "health"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "health"}, "periodSeconds": 2, "timeoutSeconds": 2},
        "resources": {"requests": {"cpu": "10m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }


def _arguments(wanted: Dashboard) -> list[str]:
    namespaces = [f"--namespace={each}" for each in wanted.namespaces]
    return [f"--auth={wanted.auth}", *namespaces, *(f"--host={each}" for each in wanted.hosts)]
