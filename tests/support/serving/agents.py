"""The agent of one pod: the real program, on an address of its own, with a pod's environment and nothing else."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from lora_api.delivery import AgentStatus
from lora_api.names import AGENT_PORT, METRICS_PATH, STATUS_PATH

_TESTS = Path(__file__).resolve().parents[2]
_KIB = 1024
_KEPT = ("PATH", "LANG", "AWS_CA_BUNDLE", "SSL_CERT_FILE")
"""Of the environment of the tests. Above all not the keys of their S3 server."""


class Agent:
    """One process. A test may kill it, freeze it and start it again."""

    def __init__(self, address: str, folder: Path, variables: dict[str, str]) -> None:
        """Prepare it. `variables` are those of its container."""
        self.address = address
        self.log = folder / "agent.log"
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        own = {"HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": str(_TESTS)}
        self._environment = kept | own | variables
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        command = [sys.executable, "-m", "lora_agent.main"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill it as the kernel does when memory is short."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=10)

    def stop(self) -> int:
        """End it as the kubelet does, and return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=30)

    def freeze(self) -> None:
        """Let it answer nobody; its connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def get(self, path: str) -> str:
        """Return what it answers; nothing while it does not, or refuses."""
        try:
            with urllib.request.urlopen(f"http://{self.address}:{AGENT_PORT}{path}", timeout=3) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return ""

    def passes(self, path: str) -> bool:
        """Return whether a probe passes."""
        try:
            with urllib.request.urlopen(f"http://{self.address}:{AGENT_PORT}{path}", timeout=3):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def status(self) -> AgentStatus | None:
        """Return what it says of its pod; None while it does not answer."""
        text = self.get(STATUS_PATH)
        return AgentStatus.model_validate_json(text) if text else None

    def adapter(self, name: str) -> Any:
        """Return what it says of one LoRAAdapter; None if it says nothing of it."""
        said = self.status()
        return next((each for each in said.adapters if each.name == name), None) if said else None

    def metrics(self) -> str:
        """Return its metrics."""
        return self.get(METRICS_PATH)

    def rss_mb(self) -> float:
        """Return the resident memory of the process itself in MB."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        line = next(each for each in fields if each.startswith("VmRSS:"))
        return int(line.split()[1]) * _KIB / 1e6
