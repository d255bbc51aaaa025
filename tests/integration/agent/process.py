"""The agent as a process of its own, with the folders, Secrets and environment that the webhook gives it."""

import hashlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from lora_agent.settings import ADAPTERS_VARIABLE, DESIRED_VARIABLE, PORT_VARIABLE, SECRETS_VARIABLE
from lora_api import names
from lora_api.artifacts import FileEntry, digest_of
from lora_api.base import SecretReference
from lora_api.delivery import AgentAdapter, AgentStatus, Desired, DesiredAdapter
from lora_api.loraadapter import BaseModelReference
from lora_api.sources import Storage
from support.engines.adapters import write_adapter
from support.s3server import S3Server, free_port
from support.wait import wait_for

SECRET = "s3-keys"
BASE = "base"


class AgentProcess:
    """One pod with an agent, which can be killed and started again."""

    def __init__(self, folder: Path, engine_url: str, s3: S3Server) -> None:
        self.folder, self.s3 = folder, s3
        self.adapters, self.desired = folder / "adapters", folder / "desired.json"
        self.secrets, self.log = folder / "secrets", folder / "log"
        self.port = free_port()
        self.environment = {
            "PATH": os.environ["PATH"],
            names.ENGINE_VARIABLE: "vllm",
            names.ENGINE_URL_VARIABLE: engine_url,
            names.ENGINE_KEY_VARIABLE: "engine-secret-key",
            names.POD_UID_VARIABLE: "pod-uid",
            ADAPTERS_VARIABLE: str(self.adapters),
            DESIRED_VARIABLE: str(self.desired),
            SECRETS_VARIABLE: str(self.secrets),
            PORT_VARIABLE: str(self.port),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.write_secret(s3.access_key, s3.secret_key)

    def start(self) -> "subprocess.Popen[bytes]":
        """Start the agent, and wait until its pages answer."""
        self._launch()
        assert self.process is not None
        wait_for("the agent's pages", lambda: self.page("/healthz")[0] == 200, state=self.logged)
        return self.process

    def run_to_its_end(self) -> int:
        """Start an agent that cannot work, and return its exit code."""
        self._launch()
        assert self.process is not None
        return self.process.wait(timeout=30)

    def kill(self) -> None:
        """End the agent as the kernel does."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=10)

    def write_secret(self, access_key: str, secret_key: str) -> None:
        """Mount the keys of the bucket."""
        folder = self.secrets / SECRET
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "AWS_ACCESS_KEY_ID").write_text(access_key)
        (folder / "AWS_SECRET_ACCESS_KEY").write_text(secret_key)

    def upload(self, bucket: str, prefix: str, **options: Any) -> str:
        """Put an adapter into a bucket as PEFT would, and return its digest."""
        folder = write_adapter(self.folder / f"{bucket}-{prefix}-{len(list(self.folder.iterdir()))}", **options)
        files = []
        for path in sorted(folder.iterdir()):
            content = path.read_bytes()
            self.s3.client().put_object(Bucket=bucket, Key=f"{prefix}/{path.name}", Body=content)
            sha256 = hashlib.sha256(content).hexdigest()
            files.append(FileEntry(path=path.name, size=len(content), sha256=sha256))
        return digest_of(files)

    def wish(self, bucket: str, prefix: str, digest: str | None = None, **more: Any) -> DesiredAdapter:
        """Return a desired adapter of a bucket."""
        storage = Storage(
            endpoint=self.s3.endpoint, path_style=True, credentials_secret_ref=SecretReference(name=SECRET)
        )
        fields: dict[str, Any] = {
            "name": "bot",
            "served_name": "bot",
            "uri": f"s3://{bucket}/{prefix}",
            "digest": digest,
            "base_model": BaseModelReference(name=BASE),
            "storage": storage,
        }
        return DesiredAdapter(**(fields | more))

    def desire(self, *wanted: DesiredAdapter) -> None:
        """Write what is desired, as the kubelet does."""
        new = self.folder / "desired.new"
        new.write_text(Desired(adapters=list(wanted)).encode())
        new.rename(self.desired)

    def page(self, path: str) -> tuple[int, str]:
        """Return status and text of a page; 0 while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def status(self) -> AgentStatus:
        """Return what the agent says."""
        return AgentStatus.model_validate(json.loads(self.page(names.STATUS_PATH)[1]))

    def adapter(self, name: str = "bot") -> AgentAdapter | None:
        """Return what the agent says of one adapter."""
        return next((each for each in self.status().adapters if each.name == name), None)

    def wait_served(self, digest: str, name: str = "bot") -> AgentAdapter:
        """Return what the agent says of an adapter when it serves a digest."""

        def look() -> AgentAdapter | None:
            said = self.adapter(name)
            return said if said is not None and said.served_digest == digest else None

        return wait_for(f"{name} serves {digest}", look, state=lambda: self.adapter(name))

    def wait_reason(self, reason: str, name: str = "bot") -> AgentAdapter:
        """Return what the agent says of an adapter when it gives a reason."""

        def look() -> AgentAdapter | None:
            said = self.adapter(name)
            return said if said is not None and said.reason == reason else None

        return wait_for(f"{name} says {reason}", look, state=lambda: self.adapter(name))

    def logged(self) -> str:
        """Return the log."""
        return self.log.read_text() if self.log.exists() else ""

    def _launch(self) -> None:
        command = [sys.executable, "-m", "lora_agent.main"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, stderr=log, stdout=log)
