"""A program that runs beside the benchmark: start, end, and what it has used, as the kernel counts it."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_KIB, _MB = 1024, 1e6
_LAST_WORDS = 1500
_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


class Process:
    """One running program, with its output in a file."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, variables: Mapping[str, str] = {}) -> None:
        """Start it."""
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("ab") as log:
            everything = {**os.environ, **variables}
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=everything,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - no thread starts programs
            )

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def check(self) -> None:
        """Raise RuntimeError if it has ended."""
        if self._process.poll() is not None:
            words = self._log.read_text(errors="replace")[-_LAST_WORDS:]
            raise RuntimeError(f"{self.name} ended with {self._process.returncode}: {words}")

    def kill(self) -> None:
        """End it as a lost node would."""
        self._process.kill()
        self._process.wait(timeout=10)

    def hold(self) -> None:
        """Stop it where it is."""
        self._process.send_signal(signal.SIGSTOP)

    def release(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """End it in order, as Kubernetes does."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()

    def cpu_seconds(self) -> float:
        """Return the processor time that it has used, user and system."""
        fields = self._read("stat").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_mb(self) -> float:
        """Return the resident memory in MB."""
        return _field(self._read("status"), "VmRSS") * _KIB / _MB

    def _read(self, name: str) -> str:
        self.check()
        return Path(f"/proc/{self.pid}/{name}").read_text()


def _end_with_parent() -> None:
    """Ask the kernel to kill this process when the benchmark is killed: nothing of it may go on by itself."""
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


def _field(text: str, name: str) -> int:
    line = next(each for each in text.splitlines() if each.startswith(f"{name}:"))
    return int(line.split()[1])
