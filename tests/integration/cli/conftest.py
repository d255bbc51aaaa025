"""One API server for all tests, one namespace for each, and the command line as a function. The tests play the rest."""

import itertools
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

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


NewUser = Callable[..., Path]


@pytest.fixture
def new_user(cluster: Objects, server: ApiServer, tmp_path: Path) -> NewUser:
    """Return what makes a user with some rights in the test's namespace, and returns the kubeconfig of that user."""
    space, group = cluster.namespace, "rbac.authorization.k8s.io"

    def make(name: str, *rules: dict[str, list[str]]) -> Path:
        subject = {"kind": "ServiceAccount", "name": name, "namespace": space}
        documents = [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
            {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": name}, "rules": list(rules)},
            {
                "apiVersion": f"{group}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": name},
                "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
                "subjects": [subject],
            },
        ]
        done = server.run_kubectl("apply", "-n", space, "-f", "-", stdin=yaml.safe_dump_all(documents))
        assert done.returncode == 0, done.stderr
        token = server.run_kubectl("create", "token", name, "-n", space).stdout.strip()
        config = yaml.safe_load(server.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        path = tmp_path / f"kubeconfig-{name}"
        path.write_text(yaml.safe_dump(config))
        return path

    return make


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
