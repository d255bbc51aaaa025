"""The pod webhook's objects, and what somebody writes who may not have a webhook.

Pure. The entry carries no certificate: each replica of the operator adds its own authority, and whoever applies the
entry again leaves that as it is. The static patch is what the webhook itself would make of a pod.
"""

from typing import Any, Literal

from lora_api.delivery import Desired
from lora_api.names import (
    ADAPTERS_ANNOTATION,
    AGENT_CONTAINER,
    DESIRED_ANNOTATION,
    INJECT_LABEL,
)
from lora_operator.app.config import WEBHOOK_SERVICE
from lora_operator.app.webhook import PATH
from lora_operator.domain.injection import InjectionSettings, inject

Object = dict[str, Any]
FailurePolicy = Literal["Fail", "Ignore"]

WEBHOOK_ROLE = "lora-operator-webhook"
WEBHOOK_PORT = 9443
PORT_NAME = "webhook"
_SERVICE_PORT = 443
_TIMEOUT_SECONDS = 5
_NAMESPACE_LABEL = "kubernetes.io/metadata.name"
_ENGINE = "engine"
_FLAGS = ["--enable-lora", "--max-lora-rank=64", "--max-loras=1"]


def webhook_service(metadata: Object, selector: dict[str, str]) -> Object:
    """Return the Service by which the API server calls the webhook."""
    port = {"name": PORT_NAME, "port": _SERVICE_PORT, "targetPort": PORT_NAME, "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": selector, "ports": [port]},
    }


def webhook_configuration(
    metadata: Object, namespace: str, namespaces: tuple[str, ...], failure_policy: FailurePolicy
) -> Object:
    """Return the entry at the API server. It is asked for labelled pods alone, so no others depend on it."""
    service = {"namespace": namespace, "name": WEBHOOK_SERVICE, "path": PATH, "port": _SERVICE_PORT}
    served = [{"key": _NAMESPACE_LABEL, "operator": "In", "values": list(namespaces)}]
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "resources": ["pods"],
        "operations": ["CREATE"],
        "scope": "Namespaced",
    }
    webhook = {
        "name": "inject.lora-operator.io",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": service},
        "rules": [rule],
        "objectSelector": {"matchLabels": {INJECT_LABEL: "true"}},
        **({"namespaceSelector": {"matchExpressions": served}} if namespaces else {}),
        "failurePolicy": failure_policy,
        "matchPolicy": "Equivalent",
        "reinvocationPolicy": "IfNeeded",
        "sideEffects": "None",
        "timeoutSeconds": _TIMEOUT_SECONDS,
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": metadata,
        "webhooks": [webhook],
    }


STATIC_HEADER = f"""\
# For clusters in which the pod webhook may not be installed: what it would add to a Deployment of vLLM.
# Paste it into the Deployment, or use this folder as a kustomize component, which patches the Deployments that have the
# label {INJECT_LABEL}: "true" themselves. Write into your own Deployment, and change here:
#   - the annotation {ADAPTERS_ANNOTATION} of the pod template: the names of your LoRAAdapters;
#   - the container "{_ENGINE}": the name of the container of your engine, and the port in LORA_ENGINE_URL;
#   - the arguments of the engine, which a patch cannot extend: add {" ".join(_FLAGS)}
#   - Secrets with keys for S3 or the hub: mount them into {AGENT_CONTAINER} at /etc/lora-secrets/<name of the Secret>.
# The volume lora-no-token keeps the token of the pod's ServiceAccount out of the agent.
"""


def static_patch(agent_image: str) -> Object:
    """Return what the webhook adds to a pod of vLLM whose flags are complete, as a patch of its Deployment."""
    pod: Object = {
        "metadata": {"labels": {INJECT_LABEL: "true"}, "annotations": {ADAPTERS_ANNOTATION: "support-bot"}},
        "spec": {"containers": [{"name": _ENGINE, "image": "vllm/vllm-openai", "args": ["--model=base", *_FLAGS]}]},
    }
    operations = inject(pod, [], Desired(), InjectionSettings(agent_image)).patch
    added = {each["path"]: each["value"] for each in operations}
    (engine,) = added["/spec/containers"]
    of_the_author = (ADAPTERS_ANNOTATION, DESIRED_ANNOTATION)  # and of the operator
    annotations = {key: value for key, value in added["/metadata/annotations"].items() if key not in of_the_author}
    template = {
        "metadata": {"labels": pod["metadata"]["labels"], "annotations": annotations},
        "spec": {
            "initContainers": added["/spec/initContainers"],
            "containers": [{key: value for key, value in engine.items() if key not in ("image", "args")}],
            "volumes": added["/spec/volumes"],
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "any"},
        "spec": {"template": template},
    }


def static_component() -> Object:
    """Return the kustomize component that patches every Deployment with the label."""
    return {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "patches": [
            {"path": "static-patch.yaml", "target": {"kind": "Deployment", "labelSelector": f"{INJECT_LABEL}=true"}}
        ],
    }
