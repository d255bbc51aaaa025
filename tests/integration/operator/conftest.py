"""One API server for all tests, one namespace for each, and the operator as a process of its own."""

import itertools
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.apiserver import ApiServer, api_server
from support.objects import Objects
from support.operator_process import Operator

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[ApiServer]:
    """Return a running API server with the CRDs."""
    with api_server() as running:
        yield running


@pytest.fixture
def cluster(server: ApiServer) -> Iterator[Objects]:
    """Return the objects of a namespace of the test's own."""
    namespace = f"test-{next(_numbers)}-{secrets.token_hex(3)}"
    objects = Objects(server, namespace)
    # "restricted" refuses every pod that is not locked down: each test that starts one proves that ours are.
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    objects.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})
    yield objects
    server.run_kubectl("delete", "lorajobs,loraadapters,jobs", "--all", "-n", namespace, "--wait=false")


@pytest.fixture
def operator(server: ApiServer, cluster: Objects, tmp_path: Path) -> Iterator[Operator]:
    """Return a running operator that serves the test's namespace."""
    running = Operator(server, cluster.namespace, tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait(timeout=10)
