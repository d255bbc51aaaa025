"""The operator as a process of its own, as a user runs it."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from support.apiserver import ApiServer, free_port

IMAGE = "trainer.example/trainer:test"


class Operator:
    """The operator, run as a user runs it."""

    def __init__(self, server: ApiServer, namespace: str, folder: Path) -> None:
        self._server = server
        self._namespace = namespace
        self.log = folder / "operator.log"
        self.health_port = free_port()
        self.metrics_port = free_port()
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [
            *(sys.executable, "-m", "lora_operator.app.main"),
            *("--trainer-image", IMAGE, "--namespace", self._namespace, "--listen", "127.0.0.1"),
            *("--health-port", str(self.health_port), "--metrics-port", str(self.metrics_port)),
        ]
        environment = os.environ | {"KUBECONFIG": str(self._server.operator_kubeconfig)}
        with self.log.open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def read(self, port: int, path: str) -> str:
        """Return what the operator answers on one of its ports."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def is_healthy(self) -> bool:
        """Return whether the liveness probe passes."""
        try:
            return bool(self.read(self.health_port, "/healthz"))
        except OSError:
            return False

    def kill(self) -> None:
        """Kill the process as a lost node would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=10)

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
