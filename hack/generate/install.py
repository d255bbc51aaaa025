"""The objects that install the operator: namespace, rights, Deployment, pod webhook and the CRDs.

Pure: an installation in, objects out. `manifests/install.yaml` is this with the released images; `make deploy` applies
it with the images of the cluster at hand. With `namespaces` it serves these alone, and has no right elsewhere but one:
to the webhook's entry, which has no namespace.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from generate.webhook import (
    PORT_NAME,
    WEBHOOK_PORT,
    WEBHOOK_ROLE,
    FailurePolicy,
    webhook_configuration,
    webhook_service,
)
from lora_api.crd import all_crds
from lora_api.names import GROUP
from lora_operator.app.config import WEBHOOK_SERVICE
from lora_operator.cluster.permissions import OWN_NAMESPACE_RULES, RULES, WEBHOOK_NAME, WEBHOOK_RULES

NAMESPACE = "lora-system"
NAME = "lora-operator"
LEASE_ROLE = f"{NAME}-lease"
VERSION = "0.1.0"
OPERATOR_IMAGE = f"lora-operator:{VERSION}"
TRAINER_IMAGE = f"lora-trainer:{VERSION}"
AGENT_IMAGE = f"lora-agent:{VERSION}"
LABELS = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "controller"}
HEALTH_PORT = 8080
METRICS_PORT = 8081
CONFIG_DIRECTORY = "/etc/lora-operator"
CONFIG_FILE = "config.yaml"
EDITOR_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
VIEWER_VERBS = ("get", "list", "watch")
RBAC_GROUP = "rbac.authorization.k8s.io"

Object = dict[str, Any]


@dataclass(frozen=True)
class Installation:
    """What differs from one cluster to the next."""

    operator_image: str = OPERATOR_IMAGE
    trainer_image: str = TRAINER_IMAGE
    namespaces: tuple[str, ...] = ()
    """Namespaces to serve; none means all. They must exist."""
    config: str = ""
    """Content of the configuration file; without one nothing is restricted."""
    agent_image: str = AGENT_IMAGE
    webhook: bool = True
    """Whether labelled pods are given an agent."""
    failure_policy: FailurePolicy = "Fail"
    """What becomes of a labelled pod while no operator answers: refused, or started without its adapters."""


def install_objects(installation: Installation | None = None) -> list[Object]:
    """Return every object of an installation, in the order in which they are applied."""
    wanted = installation or Installation()
    return [
        *all_crds().values(),
        _namespace(),
        _service_account(),
        *_user_roles(),
        *_operator_rights(wanted.namespaces),
        *(_webhook_rights() if wanted.webhook else []),
        *([_config_map(wanted.config)] if wanted.config else []),
        *([_webhook_service()] if wanted.webhook else []),
        _deployment(wanted),
        *([_webhook_configuration(wanted)] if wanted.webhook else []),
    ]


def _webhook_service() -> Object:
    return webhook_service(_meta(WEBHOOK_SERVICE, NAMESPACE), LABELS)


def _webhook_configuration(wanted: Installation) -> Object:
    return webhook_configuration(_meta(WEBHOOK_NAME), NAMESPACE, wanted.namespaces, wanted.failure_policy)


def _meta(name: str, namespace: str | None = None, labels: dict[str, str] | None = None) -> Object:
    metadata: Object = {"name": name, "labels": {**LABELS, **(labels or {})}}
    return metadata | ({"namespace": namespace} if namespace else {})


def _namespace() -> Object:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": _meta(NAMESPACE, labels=labels)}


def _service_account() -> Object:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta(NAME, NAMESPACE)}


def _operator_rights(namespaces: tuple[str, ...]) -> list[Object]:
    """Return what the operator may do: with its jobs, in the whole cluster or some namespaces, and with its Lease."""
    lease = [_role(LEASE_ROLE, OWN_NAMESPACE_RULES, NAMESPACE), _binding(LEASE_ROLE, NAMESPACE)]
    if not namespaces:
        return [_role(NAME, RULES), _binding(NAME), *lease]
    served = [make for each in namespaces for make in (_role(NAME, RULES, each), _binding(NAME, each))]
    return [*served, *lease]


def _webhook_rights() -> list[Object]:
    """Return the one right for the whole cluster that a namespaced operator has, too: its entry has no namespace."""
    return [_role(WEBHOOK_ROLE, WEBHOOK_RULES), _binding(WEBHOOK_ROLE)]


def _user_roles() -> list[Object]:
    """Return the roles of users, which aggregate to the cluster's own edit and view. The operator has neither."""
    return [
        _role(f"{NAME}-edit", user_rules(EDITOR_VERBS), aggregate_to=("edit", "admin")),
        _role(f"{NAME}-view", user_rules(VIEWER_VERBS), aggregate_to=("view",)),
    ]


def user_rules(verbs: tuple[str, ...]) -> list[Object]:
    """Return the rules of a role of users."""
    return [{"apiGroups": [GROUP], "resources": ["lorajobs", "loraadapters"], "verbs": list(verbs)}]


def _role(name: str, rules: list[Object], namespace: str | None = None, aggregate_to: tuple[str, ...] = ()) -> Object:
    """Return a Role of a namespace, or a ClusterRole without one."""
    labels = {f"{RBAC_GROUP}/aggregate-to-{role}": "true" for role in aggregate_to}
    kind = "Role" if namespace else "ClusterRole"
    return {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": kind,
        "metadata": _meta(name, namespace, labels),
        "rules": rules,
    }


def _binding(name: str, namespace: str | None = None) -> Object:
    """Return the binding that gives the operator the role of the name."""
    kind = "Role" if namespace else "ClusterRole"
    return {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": f"{kind}Binding",
        "metadata": _meta(name, namespace),
        "roleRef": {"apiGroup": RBAC_GROUP, "kind": kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    }


def _config_map(config: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _meta(NAME, NAMESPACE),
        "data": {CONFIG_FILE: config},
    }


def _deployment(wanted: Installation) -> Object:
    # The file is read at the start: another content must make another pod.
    digest = {f"{GROUP}/config-digest": hashlib.sha256(wanted.config.encode()).hexdigest()}
    metadata: Object = {"labels": LABELS} | ({"annotations": digest} if wanted.config else {})
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(NAME, NAMESPACE),
        "spec": {
            "replicas": 1,
            # The Lease keeps two from working at once. A new pod that cannot start, for a wrong image or configuration
            # file, takes nothing away: the old one goes only when the new one is ready.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": metadata, "spec": _pod(wanted)},
        },
    }


def _pod(wanted: Installation) -> Object:
    config = {"name": "config", "configMap": {"name": NAME}}
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
        "containers": [_container(wanted)],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}, *([config] if wanted.config else [])],
    }


def _container(wanted: Installation) -> Object:
    config = {"name": "config", "mountPath": CONFIG_DIRECTORY, "readOnly": True}
    return {
        "name": "operator",
        "image": wanted.operator_image,
        "imagePullPolicy": "IfNotPresent",
        "env": _environment(wanted),
        "ports": [
            {"name": "health", "containerPort": HEALTH_PORT},
            {"name": "metrics", "containerPort": METRICS_PORT},
            *([{"name": PORT_NAME, "containerPort": WEBHOOK_PORT}] if wanted.webhook else []),
        ],
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": "health"},
            "initialDelaySeconds": 10,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "health"}, "periodSeconds": 2, "timeoutSeconds": 2},
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - inside the pod
            *([config] if wanted.config else []),
        ],
    }


def _environment(wanted: Installation) -> list[Object]:
    found: list[Object] = [
        {"name": "LORA_TRAINER_IMAGE", "value": wanted.trainer_image},
        *_webhook_environment(wanted),
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},  # its name in the Lease
    ]
    if wanted.namespaces:
        found.append({"name": "LORA_NAMESPACES", "value": ",".join(wanted.namespaces)})
    if wanted.config:
        found.append({"name": "LORA_CONFIG", "value": f"{CONFIG_DIRECTORY}/{CONFIG_FILE}"})
    return found


def _webhook_environment(wanted: Installation) -> list[Object]:
    if not wanted.webhook:
        return [{"name": "LORA_WEBHOOK", "value": "off"}]
    return [{"name": "LORA_WEBHOOK", "value": "on"}, {"name": "LORA_AGENT_IMAGE", "value": wanted.agent_image}]
