"""One attempt: a trainer starts with an empty scratch folder, as in a new pod, and is killed when its time has come."""

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chaos.artifacts import ADAPTERS, CHECKPOINTS, Artifacts
from chaos.kills import Aim, Kill
from chaos.trainers import ForkServer, Trainer
from chaos.watch import Watch
from lora_api.messages import Activity
from support.s3server import free_port

_PATIENCE_SECONDS = 120
"""No attempt takes longer, and none needs longer to end after SIGTERM."""
_LOOK_SECONDS = 0.002
_STORING_SECONDS = 0.05
"""About what it takes to store a checkpoint of the tiny model, and to remove an old one; an adapter takes less."""
_FIRST_SAVES = 4
_ANY_TIME_OF_PUBLISHING = 0.5
"""Share of the kills at publishing that come at any time of it; the others, while the files are stored."""


@dataclass(frozen=True)
class Durations:
    """How long an undisturbed run took, in seconds."""

    run: float
    publishing: float


@dataclass(frozen=True)
class Ending:
    """How an attempt ended."""

    code: int | None
    """Exit code, negative for a signal."""
    kill: Kill | None
    """The kill that hit it; None when it was over before."""
    activity: Activity
    """What it did when it was hit, as far as that was seen."""
    step: int
    resumed_from: int | None
    durations: Durations
    began: bool
    """Whether it had come as far as to log anything; before that it does not handle signals."""
    skipped: int
    """Checkpoints that it found and did not believe."""


@dataclass(frozen=True)
class Job:
    """What the attempts of one job share."""

    file: Path
    artifacts: Artifacts
    log: Path


def run_attempt(server: ForkServer, job: Job, kill: Kill | None = None, usual: Durations | None = None) -> Ending:
    """Run a trainer to its end, or to the kill, whose share is one of `usual`, the durations without any."""
    port, scratch = free_port(), Path(tempfile.mkdtemp(prefix="chaos-"))
    job.log.touch()
    before, logged = job.artifacts.listing(), job.log.stat().st_size
    started = time.monotonic()
    trainer = server.start(job=str(job.file), scratch=str(scratch), log=str(job.log), port=port)
    with Watch(port) as watch:
        if kill and usual and not _comes(kill, usual, trainer, watch, Begun(job.artifacts, before)):
            kill = None
        activity = watch.progress.activity
        if kill:
            trainer.send(kill.signal)
        if not trainer.ended_within(_PATIENCE_SECONDS):
            raise TimeoutError(f"the trainer did not end; see {job.log}")
        ended = time.monotonic()
    shutil.rmtree(scratch, ignore_errors=True)
    said = job.log.read_bytes()[logged:]
    return Ending(
        code=trainer.code,
        kill=kill,
        activity=activity,
        step=watch.progress.step,
        resumed_from=watch.progress.resumed_from_step,
        durations=Durations(ended - started, ended - (watch.publishing_time or ended)),
        began=bool(said),
        skipped=said.count(b'"message": "a checkpoint is skipped"'),
    )


class Begun:
    """Counts the checkpoints and adapters that something was stored of since `before`."""

    def __init__(self, artifacts: Artifacts, before: dict[str, str]) -> None:
        self._artifacts, self._before = artifacts, before
        self._folders: set[str] = set()

    def count(self, kind: str) -> int:
        """Look again, and return how many of a kind there were."""
        new = self._artifacts.listing().items() - self._before.items()
        self._folders |= {key.rpartition("/")[0] for key, _ in new}
        return sum(f"/{kind}/" in folder for folder in self._folders)


def _comes(kill: Kill, usual: Durations, trainer: Trainer, watch: Watch, begun: Begun) -> bool:
    """Wait for the moment of a kill; return whether it comes before the trainer ends."""
    match kill.aim:
        case Aim.ANY_TIME:
            return not trainer.ended_within(kill.share * usual.run)
        case Aim.SAVING:  # of one of the first few, so that its number is as random as the moment
            number, share = divmod(kill.share * _FIRST_SAVES, 1)
            seen = _seen(trainer, lambda: begun.count(CHECKPOINTS) > number)
            return seen and not trainer.ended_within(share * _STORING_SECONDS)
        case Aim.PUBLISHING if kill.share < _ANY_TIME_OF_PUBLISHING:
            share = kill.share / _ANY_TIME_OF_PUBLISHING
            return _seen(trainer, watch.publishes) and not trainer.ended_within(share * usual.publishing)
        case Aim.PUBLISHING:  # between the files and the manifest
            share = (kill.share - _ANY_TIME_OF_PUBLISHING) / (1 - _ANY_TIME_OF_PUBLISHING)
            seen = _seen(trainer, lambda: begun.count(ADAPTERS) > 0)
            return seen and not trainer.ended_within(share * _STORING_SECONDS / 4)


def _seen(trainer: Trainer, look: Callable[[], bool]) -> bool:
    while not look():
        if trainer.ended_within(_LOOK_SECONDS):
            return False
    return True
