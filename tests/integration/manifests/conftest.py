"""One API server for these tests, and a namespace for each."""

import itertools
import secrets
from collections.abc import Iterator

import pytest

from support.apiserver import ApiServer, api_server
from support.objects import Objects

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[ApiServer]:
    """Return a running API server with the CRDs."""
    with api_server() as running:
        yield running


@pytest.fixture
def cluster(server: ApiServer) -> Objects:
    """Return the objects of a namespace of the test's own."""
    objects = Objects(server, f"manifests-{next(_numbers)}-{secrets.token_hex(3)}")
    objects.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": objects.namespace}})
    return objects
