"""Inference Deployments and LoRAAdapters as their authors write them, for a namespace that admits restricted pods only.

What the webhook adds is not here: the label and the annotations are all that a user knows of it.
"""

import base64
import os
from pathlib import Path
from typing import Any

from demo.model import MODEL_NAME
from lora_api.names import (
    ADAPTERS_ANNOTATION,
    API_VERSION,
    BASE_MODEL_ANNOTATION,
    INJECT_LABEL,
    SECRETS_ANNOTATION,
)

Document = dict[str, Any]

CREDENTIALS = "s3-credentials"
BASE_URI = f"s3://models/{MODEL_NAME}"
BASE_NAME = "base"
"""Model name under which an engine serves its base model."""
ENGINE_CONTAINER = "engine"
ENGINE_PORT = 8000
FAKE_ENGINE = "fake-engine"
"""ConfigMap with the program of the engine that is played."""
STANDALONE = Path(__file__).resolve().parents[2] / "support" / "engines" / "standalone.py"

_FAKE_DIRECTORY = "/opt/fake"
_MODEL_DIRECTORY = "/models/base"
# Called as vLLM is, so that the webhook sees vLLM and adds its flags.
_AS_VLLM = f"""#!/bin/sh
exec python3 {_FAKE_DIRECTORY}/standalone.py "$@"
"""
_FETCH_BASE = """
import boto3, os, pathlib
os.makedirs(os.environ["MODEL_DIRECTORY"], exist_ok=True)
s3 = boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT"])
bucket, prefix, folder = "models", os.environ["MODEL_PREFIX"], pathlib.Path(os.environ["MODEL_DIRECTORY"])
for item in s3.list_objects_v2(Bucket=bucket, Prefix=prefix + "/")["Contents"]:
    s3.download_file(bucket, item["Key"], str(folder / item["Key"].removeprefix(prefix + "/")))
"""


def lora_adapter(name: str, uri: str, base: str, **spec: Any) -> Document:
    """Return a LoRAAdapter over a folder in S3; fields of its spec besides name and base model are replaced."""
    storage = {
        "endpoint": os.environ["LORA_S3_ENDPOINT"],
        "pathStyle": True,
        "credentialsSecretRef": {"name": CREDENTIALS},
    }
    source = {"uri": uri, "storage": storage} | spec.pop("source", {})
    return {
        "apiVersion": API_VERSION,
        "kind": "LoRAAdapter",
        "metadata": {"name": name},
        "spec": {"baseModel": {"name": base}, "source": source} | spec,
    }


def fake_engine_program() -> Document:
    """Return the ConfigMap with the played engine, and a command that calls it as vLLM is called."""
    data = {"standalone.py": STANDALONE.read_text(), "vllm": _AS_VLLM}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": FAKE_ENGINE}, "data": data}


def fake_deployment(name: str, adapters: str, replicas: int = 2, **annotations: str) -> Document:
    """Return a Deployment of the played engine, in the image of the operator: it has Python and nothing to serve."""
    container = {
        "image": os.environ["LORA_OPERATOR_IMAGE"],
        "command": [f"{_FAKE_DIRECTORY}/vllm", "serve", _MODEL_DIRECTORY],
        "args": ["--port", str(ENGINE_PORT), "--served-model-name", BASE_NAME],
        "volumeMounts": [{"name": "program", "mountPath": _FAKE_DIRECTORY}],
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "readinessProbe": _health(period=1, failures=3),
    }
    volumes = [{"name": "program", "configMap": {"name": FAKE_ENGINE, "defaultMode": 0o555}}]
    return _deployment(name, replicas, _annotations(adapters) | annotations, container, volumes)


def vllm_deployment(name: str, adapters: str, replicas: int = 2) -> Document:
    """Return a Deployment of vLLM on the CPU. Its base model comes from S3, by an init container."""
    container = {
        "image": os.environ["LORA_ENGINE_IMAGE"],
        "command": ["vllm", "serve", _MODEL_DIRECTORY],
        "args": [
            f"--served-model-name={BASE_NAME}",
            f"--port={ENGINE_PORT}",
            "--enforce-eager",
            "--max-model-len=512",
            "--dtype=bfloat16",
            "--kv-cache-memory-bytes=64M",
        ],
        "volumeMounts": [_mount("model", "/models"), _mount("tmp", "/tmp"), _mount("shm", "/dev/shm")],
        "resources": {"requests": {"cpu": "200m", "memory": "2500Mi"}, "limits": {"memory": "4Gi"}},
        "startupProbe": _health(period=2, failures=200),
        "readinessProbe": _health(period=2, failures=5),
    }
    # Its processes talk through shared memory, of which it needs more than the 64 MiB that a pod has.
    shared_memory = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}}
    volumes = [{"name": "model", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}, shared_memory]
    return _deployment(name, replicas, _annotations(adapters), container, volumes, [_base_model()])


def without_agent(deployment: Document) -> Document:
    """Return a Deployment without the label and the annotations, with what the webhook would have told vLLM."""
    template = deployment["spec"]["template"]
    del template["metadata"]["labels"][INJECT_LABEL], template["metadata"]["annotations"]
    container = template["spec"]["containers"][0]
    container["args"] += ["--enable-lora", "--max-lora-rank=16", "--max-loras=2"]
    container["env"] = [{"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "value": "true"}]
    return deployment


def with_files(deployment: Document, folders: dict[str, dict[str, bytes]], path: str) -> list[Document]:
    """Mount folders with small files into the engine, each under `path`, and return the ConfigMaps that hold them."""
    pod = deployment["spec"]["template"]["spec"]
    for name in folders:
        pod["volumes"].append({"name": name, "configMap": {"name": name}})
        pod["containers"][0]["volumeMounts"].append(_mount(name, f"{path}/{name}"))
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "binaryData": {file: base64.b64encode(content).decode() for file, content in files.items()},
        }
        for name, files in folders.items()
    ]


def restricted() -> Document:
    """Return the security context of a container that Pod Security `restricted` admits."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _annotations(adapters: str) -> dict[str, str]:
    return {ADAPTERS_ANNOTATION: adapters, BASE_MODEL_ANNOTATION: BASE_URI, SECRETS_ANNOTATION: CREDENTIALS}


def _deployment(
    name: str,
    replicas: int,
    annotations: dict[str, str],
    container: Document,
    volumes: list[Document],
    init_containers: list[Document] | None = None,
) -> Document:
    engine = {
        "name": ENGINE_CONTAINER,
        "ports": [{"name": "http", "containerPort": ENGINE_PORT}],
        "securityContext": restricted(),
    }
    pod = {
        "terminationGracePeriodSeconds": 5,
        "containers": [engine | container],
        "initContainers": init_containers or [],
        "volumes": volumes,
    }
    labels = {"app": name, INJECT_LABEL: "true"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod},
        },
    }


def _base_model() -> Document:
    settings = {
        "S3_ENDPOINT": os.environ["LORA_S3_ENDPOINT"],
        "MODEL_PREFIX": MODEL_NAME,
        "MODEL_DIRECTORY": _MODEL_DIRECTORY,
        "AWS_DEFAULT_REGION": os.environ.get("AWS_REGION", "us-east-1"),
    }
    return {
        "name": "base-model",
        "image": os.environ["LORA_TRAINER_IMAGE"],
        "command": ["python", "-c", _FETCH_BASE],
        "env": [{"name": name, "value": value} for name, value in settings.items()],
        "envFrom": [{"secretRef": {"name": CREDENTIALS}}],
        "volumeMounts": [_mount("model", "/models"), _mount("tmp", "/tmp")],
        "securityContext": restricted(),
    }


def _mount(volume: str, path: str) -> Document:
    return {"name": volume, "mountPath": path}


def _health(period: int, failures: int) -> Document:
    probe = {"path": "/health", "port": ENGINE_PORT}
    return {"httpGet": probe, "periodSeconds": period, "failureThreshold": failures, "timeoutSeconds": 5}
