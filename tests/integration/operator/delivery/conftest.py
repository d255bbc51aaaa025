"""Adapters on their way into inference pods: an API server, an operator, S3, and pods that a test makes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.objects import Objects
from support.s3server import S3Server, open_s3_server
from support.serving.world import ServingWorld, serving_world


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Return a running S3 server."""
    with open_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def world(cluster: Objects, s3: S3Server, tmp_path: Path) -> Iterator[ServingWorld]:
    """Return everything, running, in a namespace of the test's own."""
    with serving_world(cluster, s3, tmp_path) as running:
        yield running
