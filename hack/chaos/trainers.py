"""Trainer processes, as the other side of the fork server sees them."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, cast

_FORK_SERVER = Path(__file__).with_name("forkserver.py")
_START_SECONDS = 300


class ForkServer:
    """One fork server; it runs one trainer at a time."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_FORK_SERVER)],  # -P: this folder's modules are not for it to import
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._requests, self._answers = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
        self.read(_START_SECONDS)

    def start(self, **request: Any) -> "Trainer":
        """Start a trainer: `job`, `scratch` and `log` are paths, `port` is where it serves its progress."""
        self.write(json.dumps(request))
        return Trainer(self, self.read(_START_SECONDS)["pid"])

    def close(self) -> None:
        """End the server."""
        self._requests.close()
        self._process.wait(30)

    def write(self, line: str) -> None:
        """Send one line."""
        self._requests.write(line + "\n")
        self._requests.flush()

    def read(self, seconds: float) -> dict[str, Any]:
        """Return the next answer; `TimeoutError` when there is none in time."""
        if not select.select([self._answers], [], [], seconds)[0]:
            raise TimeoutError
        line = self._answers.readline()
        if not line:
            raise RuntimeError(f"the fork server ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Trainer:
    """A running trainer."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server, self._pid = server, pid
        self.code: int | None = None
        """Exit code, negative for a signal, once it has ended."""

    def ended_within(self, seconds: float) -> bool:
        """Wait at most so long; return whether it has ended."""
        if self.code is None:
            try:
                self.code = self._server.read(max(0.0, seconds))["code"]
            except TimeoutError:
                return False
            self._server.write("seen")
        return True

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.code is None:
            os.kill(self._pid, number)
