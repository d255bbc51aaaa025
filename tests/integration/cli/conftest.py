"""One API server for all tests, one namespace for each, and the command line as a function. The tests play the rest."""

import itertools
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lora_cli import main
from support.apiserver import ApiServer, api_server
from support.objects import Objects
from support.s3server import S3Server, open_s3_server

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


Cli = Callable[..., Said]


@pytest.fixture(scope="session")
def server() -> Iterator[ApiServer]:
    """Return a running API server with the CRDs."""
    with api_server() as running:
        yield running


@pytest.fixture
def cluster(server: ApiServer) -> Iterator[Objects]:
    """Return the objects of a namespace of the test's own."""
    objects = Objects(server, f"cli-{next(_numbers)}-{secrets.token_hex(3)}")
    objects.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": objects.namespace}})
    yield objects
    server.run_kubectl("delete", "lorajobs,loraadapters,jobs", "--all", "-n", objects.namespace, "--wait=false")


@pytest.fixture
def cli(server: ApiServer, cluster: Objects, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Return the command line, for the test's namespace."""

    def run(*arguments: str, kubeconfig: Path = server.kubeconfig) -> Said:
        capsys.readouterr()
        code = main.run(["-n", cluster.namespace, "--kubeconfig", str(kubeconfig), *arguments])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Return a running S3 server."""
    with open_s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a bucket of the test's own; the process has the keys, as a user has them."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server.new_bucket("cli")
