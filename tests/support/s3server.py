"""A real S3 server for tests: the one that the environment names, or a versitygw of one's own.

With LORA_S3_ENDPOINT and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY set, that server is used; else versitygw is started
from $LORA_DEVCLUSTER_BIN or the cache of the development cluster.
"""

import contextlib
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError


@dataclass(frozen=True)
class S3Server:
    """Where the server is, and the keys that it accepts."""

    endpoint: str
    access_key: str
    secret_key: str

    def client(self) -> Any:
        """Return a client."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )

    def new_bucket(self, prefix: str) -> str:
        """Create a bucket that no other test has, and return its name. One that is there is ours: a retry made it."""
        name, client = f"{prefix}-{secrets.token_hex(4)}", self.client()
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=name)
        return name

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find the keys, as in a pod."""
        keys = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        return keys | {"AWS_EC2_METADATA_DISABLED": "true"}


@contextlib.contextmanager
def open_s3_server(folder: Path) -> Iterator[S3Server]:
    """Give the server of the environment, or start one that keeps its objects in the folder."""
    if os.environ.get("LORA_S3_ENDPOINT"):
        keys = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        yield S3Server(os.environ["LORA_S3_ENDPOINT"], *keys)
        return
    server = S3Server(f"http://127.0.0.1:{free_port()}", "testkey", secrets.token_hex(16))
    with subprocess.Popen(_command(server, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(server, process)
            yield server
        finally:
            process.terminate()


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _command(server: S3Server, folder: Path) -> list[str]:
    objects, users, versions = (folder / name for name in ("objects", "users", "versions"))
    for each in (objects, users, versions):
        each.mkdir(parents=True)
    address = server.endpoint.removeprefix("http://")
    access = ["--port", address, "--access", server.access_key, "--secret", server.secret_key, "--iam-dir", str(users)]
    return [str(_versitygw()), *access, "-q", "posix", "--versioning-dir", str(versions), str(objects)]


def _versitygw() -> Path:
    """Return the server's binary, which is built with the development cluster."""
    if os.environ.get("LORA_DEVCLUSTER_BIN"):
        return Path(os.environ["LORA_DEVCLUSTER_BIN"]) / "versitygw"
    found = sorted(Path.home().glob(".cache/lora-devcluster/*/versitygw"))
    if not found:
        raise RuntimeError("no S3 server: run `make cluster-up`, or set LORA_S3_ENDPOINT and its AWS keys")
    return found[-1]


def _wait_for(server: S3Server, process: "subprocess.Popen[bytes]") -> None:
    """Return when the server answers; its own retries pace the loop."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            server.client().list_buckets()
        except (BotoCoreError, ClientError):
            continue
        return
    raise RuntimeError("versitygw did not start")
