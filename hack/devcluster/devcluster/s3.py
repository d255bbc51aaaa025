"""The S3 server and its credentials, which are made once for each state folder."""

import secrets
from functools import partial
from pathlib import Path

from devcluster.health import http_ok
from devcluster.pki import write_private
from devcluster.processes import Component
from devcluster.settings import BRIDGE_IP, LOOPBACK, S3_PORT, Paths

REGION = "us-east-1"


def s3_server(paths: Paths, *, with_node: bool) -> Component:
    """On the bridge when there is a node, where host and pods reach the same address; else on loopback."""
    address = BRIDGE_IP if with_node else LOOPBACK
    endpoint = f"http://{address}:{S3_PORT}"
    settings = _ensure_settings(paths.s3_env, endpoint)
    # The folders for accounts and old versions must not lie in the one whose folders are the buckets.
    root, accounts, versions = (paths.state / "s3" / name for name in ("buckets", "accounts", "versions"))
    for folder in (root, accounts, versions):
        folder.mkdir(parents=True, exist_ok=True)
    argv = [
        paths.binary("versitygw"),
        f"--port={address}:{S3_PORT}",
        f"--region={REGION}",
        f"--iam-dir={accounts}",
        "--quiet",
        "posix",
        f"--versioning-dir={versions}",
        str(root),
    ]
    root_account = {
        "ROOT_ACCESS_KEY": settings["AWS_ACCESS_KEY_ID"],
        "ROOT_SECRET_KEY": settings["AWS_SECRET_ACCESS_KEY"],
    }
    answers = partial(http_ok, endpoint, any_answer=True)
    return Component("versitygw", argv, ((address, S3_PORT),), answers, root_account)


def read_settings(file: Path) -> dict[str, str]:
    """The variables of an env file; none if there is no file."""
    if not file.exists():
        return {}
    pairs = (line.partition("=") for line in file.read_text().splitlines() if "=" in line)
    return {name: value for name, _, value in pairs}


def _ensure_settings(file: Path, endpoint: str) -> dict[str, str]:
    known = read_settings(file)
    settings = {
        "LORA_S3_ENDPOINT": endpoint,
        "AWS_ACCESS_KEY_ID": known.get("AWS_ACCESS_KEY_ID") or secrets.token_hex(10),
        "AWS_SECRET_ACCESS_KEY": known.get("AWS_SECRET_ACCESS_KEY") or secrets.token_hex(20),
        "AWS_REGION": REGION,
    }
    if settings != known:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_private(file, "".join(f"{name}={value}\n" for name, value in settings.items()))
    return settings
