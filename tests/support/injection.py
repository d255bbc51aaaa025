"""Inference pods and LoRAAdapters for tests of the webhook, and the API server's part: applying a patch."""

import copy
from typing import Any

DIGEST = "sha256:" + "a" * 64
SOURCE = {"uri": "s3://models/team-a/support-bot/adapters/a", "digest": DIGEST}
BASE = {"name": "HuggingFaceTB/SmolLM2-135M-Instruct", "revision": "12fd25f"}


def labelled(annotations: dict[str, str], **container: Any) -> dict[str, Any]:
    """Return a pod of vLLM that asks for `support-bot`; further fields are those of its one container."""
    engine = {"name": "engine", "image": "vllm/vllm-openai:v0.33.0", "args": ["--model=base"]} | container
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "vllm-",
            "labels": {"lora-operator.io/inject": "true"},
            "annotations": {"lora-operator.io/adapters": "support-bot"} | annotations,
        },
        "spec": {"containers": [engine]},
    }


def adapter(name: str, **source: Any) -> dict[str, Any]:
    """Return a LoRAAdapter whose version is served already."""
    version = {
        "digest": DIGEST,
        "state": "Serving",
        "source": SOURCE | source,
        "baseModel": BASE,
        "time": "2026-01-01T00:00:00Z",
    }
    return {
        "apiVersion": "lora-operator.io/v1alpha1",
        "kind": "LoRAAdapter",
        "metadata": {"name": name, "namespace": "team-a", "uid": f"uid-{name}", "generation": 1},
        "spec": {"baseModel": BASE, "source": SOURCE | source},
        "status": {"digest": DIGEST, "versions": [version]},
    }


def patched(document: dict[str, Any], patch: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a document with a patch applied that adds or replaces members of members."""
    result = copy.deepcopy(document)
    for operation in patch:
        assert operation["op"] == "add"
        parent, name = operation["path"].strip("/").split("/")
        result[parent][name] = copy.deepcopy(operation["value"])
    return result
