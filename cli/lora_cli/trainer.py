"""Runs one command of the trainer as a process of its own, and follows it until it ends.

All that is shared with the trainer is its contract: the job file, the lines of its log, `GET /progress`, and its last
words. A signal is passed on once and then waited for, because the trainer saves a checkpoint at the first one and gives
up at the second.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from pydantic import ValidationError

from lora_api.exit_codes import ExitCode
from lora_api.messages import Progress, TerminationMessage
from lora_api.names import PROGRESS_PATH, SCRATCH_VARIABLE, TERMINATION_LOG_VARIABLE
from lora_api.reasons import Reason

SERVED = "progress served"
"""Line of the trainer's log that has the port."""
_POLL_SECONDS = 0.5
_ANSWER_SECONDS = 5  # a trainer that computes may take its time
_PASSED_ON = {signal.SIGINT: signal.SIGINT, signal.SIGTERM: signal.SIGTERM, signal.SIGHUP: signal.SIGTERM}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    message: TerminationMessage


@dataclass(frozen=True)
class WorkFolder:
    """Where a run keeps its files: job file, log, last words, and the trainer's scratch space."""

    root: Path
    job: str
    """Tells the jobs apart that share a folder: `<namespace>-<name>`."""

    @property
    def job_file(self) -> Path:
        """What the trainer is told."""
        return self.root / "jobs" / f"{self.job}.json"

    @property
    def log(self) -> Path:
        """What it wrote to stdout and stderr."""
        return self.root / "jobs" / f"{self.job}.log"

    @property
    def last_words(self) -> Path:
        """Its termination message."""
        return self.root / "jobs" / f"{self.job}.end"

    @property
    def lock(self) -> Path:
        """Held while the job runs."""
        return self.root / "jobs" / f"{self.job}.lock"


def run_trainer(command: str, folder: WorkFolder, show: Callable[[Progress], None]) -> Ended:
    """Run `preflight` or `train`; `show` is called twice a second with what the trainer says about its progress."""
    folder.last_words.write_bytes(b"")
    environment = os.environ | {
        SCRATCH_VARIABLE: str(folder.root),
        TERMINATION_LOG_VARIABLE: str(folder.last_words),
        "PYTHONUNBUFFERED": "1",
    }
    arguments = [sys.executable, "-m", "lora_trainer.cli", command, "--job", str(folder.job_file)]
    with (
        folder.log.open("ab") as log,
        subprocess.Popen(  # noqa: S603 - this interpreter, our own module
            arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            process_group=0,  # a terminal sends Ctrl-C to its whole group, which would be a second signal
        ) as process,
        _passing_signals_on(process),
    ):
        _follow(process, log, show)
    return _ended(process.returncode, folder.last_words)


def _follow(process: "subprocess.Popen[bytes]", log: IO[bytes], show: Callable[[Progress], None]) -> None:
    reader = _LogReader(process, log)
    reader.start()
    while True:
        try:
            process.wait(_POLL_SECONDS)
            break
        except subprocess.TimeoutExpired:
            progress = ask_progress(reader.port)
            if progress is not None:
                show(progress)
    reader.join()


class _LogReader(threading.Thread):
    """Keeps the log, and finds the port in it."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
        super().__init__(name="log", daemon=True)
        self._process, self._log = process, log
        self.port: int | None = None

    def run(self) -> None:
        """Read until the trainer closes its output."""
        for line in self._process.stdout or ():
            self._log.write(line)
            self._log.flush()
            self.port = self.port or served_port(line)


def served_port(line: bytes) -> int | None:
    """Return the port that a line of the trainer's log names, or None."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if not isinstance(event, dict) or event.get("message") != SERVED:
        return None
    port = event.get("port")
    return port if isinstance(port, int) else None


def ask_progress(port: int | None) -> Progress | None:
    """Return what the trainer says about its progress, or None when it says nothing now."""
    if port is None:
        return None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", PROGRESS_PATH)
        return Progress.model_validate_json(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValidationError):
        return None
    finally:
        connection.close()


@contextmanager
def _passing_signals_on(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    def pass_on(number: int, _frame: FrameType | None) -> None:
        process.send_signal(_PASSED_ON[signal.Signals(number)])

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ended(code: int, last_words: Path) -> Ended:
    """Return the end of the trainer; what it could not say itself is said for it."""
    try:
        message = TerminationMessage.model_validate_json(last_words.read_bytes())
    except ValidationError:
        what = f"was killed by signal {-code}" if code < 0 else f"ended with code {code} without a word"
        hint = "the machine may have run out of memory; see the log"
        message = TerminationMessage(reason=Reason.INTERNAL_ERROR.value, message=f"the trainer {what}", hint=hint)
        code = code if code > 0 else ExitCode.INTERNAL_ERROR
    return Ended(code, message)
