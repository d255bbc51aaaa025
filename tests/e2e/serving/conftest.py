"""What the tests of delivery share: a namespace for a whole module, and names of folders in S3 that nobody else has."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from demo.kubectl import apply, kubectl
from demo.objects import restricted_namespace, s3_credentials
from e2e.serving.objects import CREDENTIALS


@pytest.fixture(scope="module")
def serving_namespace(s3: Any) -> Iterator[str]:
    """Return a namespace that admits restricted pods only, with the S3 credentials, for the tests of a module."""
    name = f"e2e-serving-{uuid.uuid4().hex[:8]}"
    kubectl("apply", "-f", "-", stdin=json.dumps(restricted_namespace(name)))
    apply(name, s3_credentials(CREDENTIALS))
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def folder(serving_namespace: str) -> Callable[[str], str]:
    """Return a maker of folders in the bucket of adapters."""
    unique = uuid.uuid4().hex[:8]
    return lambda name: f"s3://adapters/{serving_namespace}/{unique}/{name}"
