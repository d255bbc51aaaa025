"""The objects that install the operator: namespace, rights, Deployment and the CRDs.

Pure: images in, objects out. `manifests/install.yaml` is this with the released images; `make deploy` applies it with
the images of the cluster at hand.
"""

from typing import Any

from lora_api.crd import all_crds
from lora_api.names import GROUP
from lora_operator.cluster.permissions import RULES

NAMESPACE = "lora-system"
NAME = "lora-operator"
VERSION = "0.1.0"
OPERATOR_IMAGE = f"lora-operator:{VERSION}"
TRAINER_IMAGE = f"lora-trainer:{VERSION}"
LABELS = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "controller"}
HEALTH_PORT = 8080
METRICS_PORT = 8081
EDITOR_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
VIEWER_VERBS = ("get", "list", "watch")

Object = dict[str, Any]


def install_objects(operator_image: str = OPERATOR_IMAGE, trainer_image: str = TRAINER_IMAGE) -> list[Object]:
    """Return every object of an installation, in the order in which they are applied."""
    return [
        *all_crds().values(),
        _namespace(),
        _service_account(),
        *_cluster_roles(),
        _cluster_role_binding(),
        _deployment(operator_image, trainer_image),
    ]


def _meta(name: str, *, namespaced: bool = True, labels: dict[str, str] | None = None) -> Object:
    metadata: Object = {"name": name, "labels": {**LABELS, **(labels or {})}}
    return metadata | ({"namespace": NAMESPACE} if namespaced else {})


def _namespace() -> Object:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": _meta(NAMESPACE, namespaced=False, labels=labels)}


def _service_account() -> Object:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta(NAME)}


def _cluster_roles() -> list[Object]:
    return [
        _cluster_role(NAME, RULES),
        _cluster_role(f"{NAME}-edit", _user_rules(EDITOR_VERBS), aggregate_to=("edit", "admin")),
        _cluster_role(f"{NAME}-view", _user_rules(VIEWER_VERBS), aggregate_to=("view",)),
    ]


def _cluster_role(name: str, rules: list[Object], aggregate_to: tuple[str, ...] = ()) -> Object:
    labels = {f"rbac.authorization.k8s.io/aggregate-to-{role}": "true" for role in aggregate_to}
    metadata = _meta(name, namespaced=False, labels=labels)
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules}


def _user_rules(verbs: tuple[str, ...]) -> list[Object]:
    """Return the rules of a role that aggregates to the cluster's own edit or view."""
    return [{"apiGroups": [GROUP], "resources": ["lorajobs", "loraadapters"], "verbs": list(verbs)}]


def _cluster_role_binding() -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": _meta(NAME, namespaced=False),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    }


def _deployment(operator_image: str, trainer_image: str) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(NAME),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},  # two at once would be safe, and of no use
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": _pod(operator_image, trainer_image)},
        },
    }


def _pod(operator_image: str, trainer_image: str) -> Object:
    return {
        "serviceAccountName": NAME,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(operator_image, trainer_image)],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
    }


def _container(operator_image: str, trainer_image: str) -> Object:
    return {
        "name": "operator",
        "image": operator_image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "LORA_TRAINER_IMAGE", "value": trainer_image}],
        "ports": [
            {"name": "health", "containerPort": HEALTH_PORT},
            {"name": "metrics", "containerPort": METRICS_PORT},
        ],
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": "health"},
            "initialDelaySeconds": 10,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "health"}, "periodSeconds": 2, "timeoutSeconds": 2},
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - inside the pod
    }
