"""End-to-end tests: the operator as it was deployed, real pods, a real S3 server, a real model.

They need what `make e2e` sets up: a cluster with the operator, and the environment that names S3.
"""

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.bucket import make_bucket, put_folder, s3_client
from demo.kubectl import apply, kubectl
from demo.model import MODEL_NAME, exported_model
from support.lorajobs import LoRAJobs, credentials

DATA = Path(__file__).resolve().parents[2] / "manifests" / "samples" / "data" / "support.jsonl"


@pytest.fixture(scope="session")
def s3() -> Any:
    """Return a client of the S3 server, with the base model and the sample data in their buckets."""
    client = s3_client()
    for bucket in ("models", "datasets", "adapters"):
        make_bucket(client, bucket)
    put_folder(client, exported_model(), "models", MODEL_NAME)
    client.upload_file(str(DATA), "datasets", DATA.name)
    return client


@pytest.fixture
def namespace() -> Iterator[str]:
    """Return a fresh namespace that admits restricted pods only, with the S3 credentials in it."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl("apply", "-f", "-", stdin=_json("Namespace", {"name": name, "labels": labels}))
    apply(name, credentials("s3-credentials", os.environ["AWS_SECRET_ACCESS_KEY"]))
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def jobs(namespace: str) -> LoRAJobs:
    """Return the LoRAJobs of the fresh namespace."""
    return LoRAJobs(namespace, os.environ["LORA_S3_ENDPOINT"])


def _json(kind: str, metadata: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": kind, "metadata": metadata})
