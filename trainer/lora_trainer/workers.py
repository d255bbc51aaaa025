"""The processes of this pod that train: started with what torch wants to know, watched, and ended together.

One that ends badly, or a pod that has gone, leaves the others waiting in a collective for ever. They are told by a file
and a signal, get some time for their last words, and are killed then.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from lora_api.exit_codes import ExitCode
from lora_api.messages import TerminationMessage
from lora_trainer.logs import log
from lora_trainer.termination import Outcome

OUTCOMES_VARIABLE = "LORA_OUTCOMES"
"""Folder where the workers leave their last words; set for workers only."""
GONE_NAME = "gone"
"""A file of this name in that folder says that others have gone, so that to go on is in vain."""
SHUTDOWN_SECONDS = 110.0
"""Time for the last checkpoint after a signal; the operator gives a pod 120 s."""
FAREWELL_SECONDS = 60.0
"""Time for the last words after others have gone, the upload of a checkpoint that is under way in it."""
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Group:
    """The workers of one pod among those of the run."""

    processes: int
    """Of this pod."""
    node: int
    nodes: int
    address: str
    """Where all workers meet."""
    port: int

    def environment_of(self, worker: int) -> dict[str, str]:
        """Return what torch reads of a worker's place."""
        rank = self.node * self.processes + worker
        return {
            "RANK": str(rank),
            "LOCAL_RANK": str(worker),
            "WORLD_SIZE": str(self.processes * self.nodes),
            "LOCAL_WORLD_SIZE": str(self.processes),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }


@dataclass(frozen=True)
class Ended:
    """How a worker ended."""

    rank: int
    code: int
    """Exit code; negative for a signal."""
    words: Outcome | None
    """What it said; None for one that had no time to."""
    told: bool
    """Whether it was told to end before it did."""


def run_workers(
    command: list[str], group: Group, extra: Mapping[str, str], gone: Callable[[], bool]
) -> tuple[list[Ended], bool]:
    """Run the workers to their end; return how they ended, the first one first, and whether a signal came.

    `gone` says whether another pod has gone.
    """
    with tempfile.TemporaryDirectory(prefix="outcomes-") as folder:
        environment = os.environ | dict(extra) | {OUTCOMES_VARIABLE: folder}
        if group.processes > 1:
            environment.setdefault("OMP_NUM_THREADS", "1")  # together they use all CPUs
        with _Watch(group, Path(folder), gone).signals_passed_on() as watch:
            for worker in range(group.processes):
                watch.start(worker, command, environment)
            return watch.until_all_ended(), watch.signalled


class _Watch:
    """Looks after running workers."""

    def __init__(self, group: Group, folder: Path, gone: Callable[[], bool]) -> None:
        self._group, self._folder, self._gone = group, folder, gone
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._deadline = float("inf")
        self._told = False
        self._ended: list[Ended] = []
        self.signalled = False

    def start(self, worker: int, command: list[str], environment: Mapping[str, str]) -> None:
        """Start a worker, in a session of its own: a terminal sends its signals to all, and each counts them."""
        own = {**environment, **self._group.environment_of(worker)}
        self._running[worker] = subprocess.Popen(command, env=own, start_new_session=True)  # noqa: S603
        if self.signalled:
            self._signal(signal.SIGTERM)

    def until_all_ended(self) -> list[Ended]:
        """Wait for all of them, and see to it that they end."""
        while True:
            for worker, process in list(self._running.items()):
                if process.poll() is not None:
                    self._note(worker, process.returncode)
            if not self._running:
                return self._ended
            if self._gone():
                self._tell()
            if time.monotonic() > self._deadline:
                self._kill()
            time.sleep(_LOOK_SECONDS)

    @contextmanager
    def signals_passed_on(self) -> Iterator["_Watch"]:
        """Send to the workers what this process is sent; kill them if it leaves in a hurry."""

        def handle(number: int, _frame: FrameType | None) -> None:
            self.signalled = True
            self._end_within(SHUTDOWN_SECONDS)
            self._signal(number)

        before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield self
        finally:
            self._kill()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, worker: int, code: int) -> None:
        del self._running[worker]
        rank = self._group.node * self._group.processes + worker
        words = _read(self._folder / f"{rank}.json")
        self._ended.append(Ended(rank, code, words, told=self._told))
        if code == ExitCode.INTERRUPTED and words is not None and not words.consequence:
            self._end_within(SHUTDOWN_SECONDS)  # a signal, about which all agree
        elif code != ExitCode.DONE:
            self._tell()

    def _tell(self) -> None:
        if self._told:
            return
        self._told = True
        log("ending the workers, because others have gone", workers=len(self._running))
        (self._folder / GONE_NAME).touch()
        self._end_within(FAREWELL_SECONDS)

    def _end_within(self, seconds: float) -> None:
        self._deadline = min(self._deadline, time.monotonic() + seconds)

    def _signal(self, number: int) -> None:
        for process in list(self._running.values()):
            process.send_signal(number)

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)


def worker_command(job_file: Path) -> list[str]:
    """Return the command line of a worker: this interpreter, our own module."""
    return [sys.executable, "-m", "lora_trainer.cli", "train", "--job", str(job_file)]


def leave_words(folder: Path, rank: str, outcome: Outcome) -> None:
    """Say how a worker ended; the last words that it says count, and they are there whole or not at all."""
    content = {
        "code": int(outcome.code),
        "message": outcome.message.wire(),
        "canShrink": outcome.can_shrink,
        "consequence": outcome.consequence,
    }
    part = folder / f"{rank}.part"
    part.write_text(json.dumps(content))
    part.replace(folder / f"{rank}.json")


def _read(path: Path) -> Outcome | None:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    message = TerminationMessage.model_validate(content["message"])
    return Outcome(ExitCode(content["code"]), message, content["canShrink"], content["consequence"])
