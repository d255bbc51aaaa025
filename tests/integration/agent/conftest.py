"""One S3 server for all tests, an engine of each test's own, and the agent as a process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.agent.process import AgentProcess
from support.engines.running import Running, running
from support.engines.vllm import Vllm
from support.s3server import S3Server, open_s3_server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Return a running S3 server."""
    with open_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def engine() -> Iterator[Running[Vllm]]:
    """Return an engine that answers as vLLM does."""
    with running(Vllm()) as server:
        yield server


@pytest.fixture
def agent(tmp_path: Path, engine: Running[Vllm], s3: S3Server) -> Iterator[AgentProcess]:
    """Return an agent's pod; the test starts it."""
    pod = AgentProcess(tmp_path, engine.url, s3)
    yield pod
    pod.kill()
