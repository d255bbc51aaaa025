"""The agent's container and its volumes, as they are put into an inference pod. Pure.

Locked down, with small limits, and without the token of the pod's ServiceAccount: the agent talks to the engine, to S3
and to the hub, and never to the API server.

What the API server would fill in is written out: a pod that comes a second time is then found as it was made.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lora_api.names import (
    ADAPTERS_DIRECTORY,
    AGENT_CONTAINER,
    AGENT_PORT,
    AGENT_PORT_NAME,
    BASE_MODEL_ANNOTATION,
    BASE_MODEL_VARIABLE,
    BASE_REVISION_ANNOTATION,
    BASE_REVISION_VARIABLE,
    DESIRED_ANNOTATION,
    DESIRED_DIRECTORY,
    DESIRED_FILE,
    ENGINE_KEY_VARIABLE,
    ENGINE_MAX_RANK_VARIABLE,
    ENGINE_URL_VARIABLE,
    ENGINE_VARIABLE,
    POD_UID_VARIABLE,
    READY_PATH,
    REQUIRED_ADAPTERS_VARIABLE,
    SECRETS_DIRECTORY,
    STARTED_PATH,
    STORE_BYTES_VARIABLE,
)
from lora_operator.domain.flags import literal

Document = dict[str, Any]

ADAPTERS_VOLUME: Final = "lora-adapters"
_DESIRED_VOLUME: Final = "lora-desired"
_TEMPORARY_VOLUME: Final = "lora-agent-tmp"
_NO_TOKEN_VOLUME: Final = "lora-no-token"  # noqa: S105 - the name of a volume
_SECRET_PREFIX: Final = "lora-secret-"  # noqa: S105 - the beginning of a name
_TOKEN_DIRECTORY: Final = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
"""Where the ServiceAccount admission mounts the token, unless something is mounted there already."""
OWN_VOLUMES: Final[Mapping[str, str]] = {
    ADAPTERS_VOLUME: "emptyDir",
    _DESIRED_VOLUME: "downwardAPI",
    _TEMPORARY_VOLUME: "emptyDir",
    _NO_TOKEN_VOLUME: "emptyDir",
}
"""Volumes that are the webhook's, by name, with their kind. Those of Secrets have names made of a digest."""
_USER: Final = 65532
_READ_ONLY_FOR_ALL: Final = 0o444
_OPTIONAL: Final = (
    ENGINE_KEY_VARIABLE,
    ENGINE_MAX_RANK_VARIABLE,
    BASE_MODEL_VARIABLE,
    BASE_REVISION_VARIABLE,
    REQUIRED_ADAPTERS_VARIABLE,
)


@dataclass(frozen=True, slots=True)
class Agent:
    """What differs from one agent to the next."""

    image: str
    engine: str
    url: str
    key: Document | None
    """Variable with the key that the engine asks for."""
    max_rank: int | None
    required: tuple[str, ...]
    annotations: Mapping[str, str]
    """Those of the pod."""
    store_size: str
    """Quantity, such as 8Gi."""
    store_bytes: int
    """The same in bytes."""
    secrets: tuple[str, ...]


def secret_volume(name: str) -> str:
    """Return the name of the volume of a Secret, whose own name may be too long for one."""
    return _SECRET_PREFIX + hashlib.sha256(name.encode()).hexdigest()[:16]


def is_own(volume: str) -> bool:
    """Return whether a volume is one that the webhook adds, by its name."""
    return volume in OWN_VOLUMES or volume.startswith(_SECRET_PREFIX)


def agent_volumes(agent: Agent) -> list[Document]:
    """Return the volumes of the agent."""
    path = f"metadata.annotations['{DESIRED_ANNOTATION}']"
    file = {"path": DESIRED_FILE, "fieldRef": {"apiVersion": "v1", "fieldPath": path}}
    return [
        {"name": ADAPTERS_VOLUME, "emptyDir": {"sizeLimit": agent.store_size}},
        {"name": _DESIRED_VOLUME, "downwardAPI": {"items": [file], "defaultMode": _READ_ONLY_FOR_ALL}},
        {"name": _TEMPORARY_VOLUME, "emptyDir": {"sizeLimit": "64Mi"}},
        {"name": _NO_TOKEN_VOLUME, "emptyDir": {"sizeLimit": "1Mi"}},
        *(
            {
                "name": secret_volume(each),
                "secret": {"secretName": each, "optional": True, "defaultMode": _READ_ONLY_FOR_ALL},
            }
            for each in agent.secrets
        ),
    ]


def agent_container(agent: Agent, before: Document | None = None) -> Document:
    """Return the agent as a native sidecar.

    `before` is the agent that the pod has already: what another webhook added to it, such as the identity that a cloud
    gives to pods, is kept. A token of the API server is not.
    """
    environment, mounts = _environment(agent), _mounts(agent)
    if before is not None:
        ours = {*(each["name"] for each in environment), *_OPTIONAL}
        environment += [each for each in before.get("env") or [] if each["name"] not in ours]
        mounts += [each for each in before.get("volumeMounts") or [] if not _is_ours(each, mounts)]
    return {
        "name": AGENT_CONTAINER,
        "image": agent.image,
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "env": environment,
        "ports": [{"name": AGENT_PORT_NAME, "containerPort": AGENT_PORT, "protocol": "TCP"}],
        # The agent itself decides how long the engine waits, and a restart would only begin the downloads anew.
        "startupProbe": _probe(STARTED_PATH, period=1, failures=86_400),
        "readinessProbe": _probe(READY_PATH, period=2, failures=1),
        "livenessProbe": _probe("/healthz", period=10, failures=6),
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _environment(agent: Agent) -> list[Document]:
    texts = {
        ENGINE_VARIABLE: agent.engine,
        ENGINE_URL_VARIABLE: agent.url,
        ENGINE_MAX_RANK_VARIABLE: str(agent.max_rank or ""),
        BASE_MODEL_VARIABLE: agent.annotations.get(BASE_MODEL_ANNOTATION, ""),
        BASE_REVISION_VARIABLE: agent.annotations.get(BASE_REVISION_ANNOTATION, ""),
        REQUIRED_ADAPTERS_VARIABLE: ",".join(agent.required),
        STORE_BYTES_VARIABLE: str(agent.store_bytes),
    }
    return [
        {"name": POD_UID_VARIABLE, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}}},
        *({"name": name, "value": literal(text.strip())} for name, text in texts.items() if text.strip()),
        *([agent.key] if agent.key else []),
    ]


def _mounts(agent: Agent) -> list[Document]:
    return [
        {"name": ADAPTERS_VOLUME, "mountPath": ADAPTERS_DIRECTORY},
        {"name": _DESIRED_VOLUME, "mountPath": DESIRED_DIRECTORY, "readOnly": True},
        {"name": _TEMPORARY_VOLUME, "mountPath": "/tmp"},  # noqa: S108 - inside the pod
        {"name": _NO_TOKEN_VOLUME, "mountPath": _TOKEN_DIRECTORY, "readOnly": True},
        *(
            {"name": secret_volume(each), "mountPath": f"{SECRETS_DIRECTORY}/{each}", "readOnly": True}
            for each in agent.secrets
        ),
    ]


def _is_ours(mount: Document, ours: list[Document]) -> bool:
    """Return whether a mount of the pod's agent is one that is made here, or was for a Secret of before."""
    paths = {each["mountPath"] for each in ours}
    return mount["mountPath"] in paths or is_own(str(mount["name"]))


def _probe(path: str, *, period: int, failures: int) -> Document:
    return {
        "httpGet": {"path": path, "port": AGENT_PORT_NAME, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": max(2, period // 2),
        "successThreshold": 1,
        "failureThreshold": failures,
    }
