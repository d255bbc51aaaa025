"""End-to-end tests: the operator as it was deployed, real pods, a real S3 server, a real model.

They need what `make e2e` sets up: a cluster with the operator, and the environment that names S3.
"""

import json
import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from demo.bucket import s3_client
from demo.kubectl import apply, kubectl
from demo.objects import restricted_namespace, s3_credentials
from demo.samples import fill_buckets
from support.lorajobs import LoRAJobs


@pytest.fixture(scope="session")
def s3() -> Any:
    """Return a client of the S3 server, with the base model and the sample data in their buckets."""
    client = s3_client()
    fill_buckets(client)
    return client


@pytest.fixture
def namespace() -> Iterator[str]:
    """Return a fresh namespace that admits restricted pods only, with the S3 credentials in it."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    kubectl("apply", "-f", "-", stdin=json.dumps(restricted_namespace(name)))
    apply(name, s3_credentials("s3-credentials"))
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def jobs(namespace: str) -> LoRAJobs:
    """Return the LoRAJobs of the fresh namespace."""
    return LoRAJobs(namespace, os.environ["LORA_S3_ENDPOINT"])
