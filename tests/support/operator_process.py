"""The operator as a process of its own, as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from support.apiserver import ApiServer, free_port

IMAGE = "trainer.example/trainer:test"


class Operator:
    """The operator, run as a user runs it."""

    def __init__(
        self,
        server: ApiServer,
        namespace: str,
        folder: Path,
        *,
        name: str = "operator",
        elected: bool = False,
        port: int = 0,
        kubeconfig: Path | None = None,
    ) -> None:
        """Start it. `elected` is one of several replicas; `port` or `kubeconfig` is another way to the API server."""
        self._server = server
        self._namespace = namespace
        self._folder = folder
        self._name = name
        self._elected = elected
        self._port = port
        self._given_kubeconfig = kubeconfig
        self.log = folder / f"{name}.log"
        self.health_port = free_port()
        self.metrics_port = free_port()
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [
            *(sys.executable, "-m", "lora_operator.app.main"),
            *("--trainer-image", IMAGE, "--namespace", self._namespace, "--listen", "127.0.0.1"),
            *("--health-port", str(self.health_port), "--metrics-port", str(self.metrics_port)),
            "--leader-election" if self._elected else "--no-leader-election",
        ]
        environment = os.environ | {
            "KUBECONFIG": str(self._kubeconfig()),
            "LORA_LEASE_NAMESPACE": self._namespace,
            "LORA_IDENTITY": self._name,
        }
        with self.log.open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def _kubeconfig(self) -> Path:
        if self._given_kubeconfig:
            return self._given_kubeconfig
        if not self._port:
            return self._server.operator_kubeconfig
        config = yaml.safe_load(self._server.operator_kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self._port}"
        path = self._folder / f"{self._name}.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    def read(self, port: int, path: str) -> str:
        """Return what the operator answers on one of its ports."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def health(self) -> dict[str, Any]:
        """Return what the liveness probe says, good or bad; empty if nobody answers."""
        try:
            found: dict[str, Any] = json.loads(self.read(self.health_port, "/healthz"))
        except urllib.error.HTTPError as error:
            found = json.loads(error.read())
        except OSError:
            found = {}
        return found

    def is_healthy(self) -> bool:
        """Return whether the liveness probe passes."""
        health = self.health()
        return bool(health) and "failing" not in health

    def is_ready(self) -> bool:
        """Return whether the readiness probe passes."""
        try:
            return bool(self.read(self.health_port, "/readyz"))
        except OSError:
            return False

    def leads(self) -> bool:
        """Return whether it watches and works."""
        return self.health().get("role") == "leader" and self.is_ready()

    def freeze(self) -> None:
        """Stop it as a paused machine would."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process as a lost node would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=10)

    def shoot(self) -> None:
        """Kill the process and do not wait for its end."""
        self.process.send_signal(signal.SIGKILL)

    def restart(self) -> None:
        """Start it again after it was killed."""
        self.process = self._start()

    def stop(self) -> int:
        """End it as Kubernetes does, and return its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=30)

    def passes(self) -> float:
        """Return the number of finished reconcile passes; 0 while the process is not up."""
        try:
            lines = self.read(self.metrics_port, "/metrics").splitlines()
        except OSError:
            return 0.0
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("loraop_reconcile_total{"))
