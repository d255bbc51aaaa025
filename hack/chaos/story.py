"""A run that is killed again and again until it is done, and everything that must be true meanwhile."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from chaos.artifacts import Artifacts, half_folders
from chaos.attempt import Durations, Ending, Job, run_attempt
from chaos.kills import Kill
from chaos.trainers import ForkServer
from chaos.world import NAMESPACE, World
from lora_api.exit_codes import ExitCode

_EARLIER = 0.7
_RIGHT_CODES = {
    signal.SIGTERM: {ExitCode.INTERRUPTED, ExitCode.DONE},
    signal.SIGKILL: {-signal.SIGKILL},
}


@dataclass(frozen=True)
class Undisturbed:
    """What a run gives when nobody disturbs it."""

    digest: str
    durations: Durations


@dataclass
class Disturbed:
    """A run that was killed."""

    name: str
    variant: str
    endings: list[Ending] = field(default_factory=list)
    half_written: list[str] = field(default_factory=list)
    """For each folder that a kill left without a manifest: checkpoints or adapters."""
    digest_differs: bool = False
    faults: list[str] = field(default_factory=list)
    """What must never happen and did."""


class KillList:
    """Kills that several runs take from; one that came too late is given back."""

    def __init__(self, kills: list[Kill]) -> None:
        self._kills, self._lock = list(kills), threading.Lock()

    def __len__(self) -> int:
        return len(self._kills)

    def take(self) -> Kill | None:
        """Return the next kill, or None when there is none left."""
        with self._lock:
            return self._kills.pop(0) if self._kills else None

    def give_back(self, kill: Kill) -> None:
        """Keep a kill for a later attempt, at an earlier moment: it came after the end, as runs differ in time."""
        with self._lock:
            self._kills.append(replace(kill, share=_EARLIER * kill.share))


def run_undisturbed(server: ForkServer, world: World, name: str, variant: str) -> Undisturbed:
    """Return what a run gives when nobody disturbs it."""
    job = _job(world, name, variant)
    ending = run_attempt(server, job)
    if ending.code != ExitCode.DONE:
        raise RuntimeError(f"the undisturbed run ended with {ending.code}; see {job.log}")
    (digest,) = job.artifacts.digests()
    return Undisturbed(digest, ending.durations)


def run_plain(world: World, name: str, variant: str) -> str:
    """Return the digest of a run by the command line alone, without a fork server. Raises when the run fails."""
    job = _job(world, name, variant)
    command = [sys.executable, "-m", "lora_trainer.cli", "train", "--job", str(job.file)]
    with tempfile.TemporaryDirectory() as scratch, job.log.open("w") as log:
        environment = os.environ | world.environment | {"LORA_SCRATCH": scratch}
        subprocess.run(command, env=environment, stdout=log, stderr=log, check=True)
    (digest,) = job.artifacts.digests()
    return digest


def run_disturbed(
    server: ForkServer, world: World, run: Disturbed, usual: Undisturbed, kills: KillList, tell: Callable[[str], None]
) -> Disturbed:
    """Kill a run as long as there are kills, and start it again each time, until it is done or something is wrong."""
    job = _job(world, run.name, run.variant)
    while not run.faults:
        kill, newest, half = kills.take(), job.artifacts.newest_checkpoint(), half_folders(job.artifacts.listing())
        ending = run_attempt(server, job, kill, usual.durations)
        if kill and not ending.kill:
            kills.give_back(kill)
        run.endings.append(ending)
        run.half_written += [each.split("/")[-2] for each in half_folders(job.artifacts.listing()) if each not in half]
        run.faults += _faults(ending, newest, job.artifacts)
        tell(_line(run.name, ending))
        if ending.code == ExitCode.DONE:
            run.digest_differs = job.artifacts.digests() != [usual.digest]
            run.faults += _faults_at_the_end(run, job.artifacts, world.steps)
            break
    return run


def _job(world: World, name: str, variant: str) -> Job:
    artifacts = Artifacts(world.s3, world.bucket, f"out/{NAMESPACE}/{name}/")
    return Job(world.write_job(name, variant), artifacts, world.folder / f"{name}.log")


def _faults(ending: Ending, newest: int | None, artifacts: Artifacts) -> list[str]:
    """Return what is wrong after an attempt that began with `newest` as the newest checkpoint."""
    faults = [f"{path} is not what its manifest says" for path in artifacts.lies()]
    right = _RIGHT_CODES[ending.kill.signal] if ending.kill else {ExitCode.DONE}
    if ending.code not in right and (ending.began or ending.code != -signal.SIGTERM):
        faults.append(f"exit code {ending.code} after {ending.kill.signal.name if ending.kill else 'no kill'}")
    if ending.step and ending.resumed_from != newest:
        faults.append(f"went on from {ending.resumed_from}, but the newest checkpoint was {newest}")
    if ending.skipped:
        faults.append(f"{ending.skipped} checkpoints with a manifest were not believed")
    return faults


def _faults_at_the_end(run: Disturbed, artifacts: Artifacts, steps: int) -> list[str]:
    measured = artifacts.measured_steps()
    faults = [f"the adapters are {artifacts.digests()}"] if run.digest_differs else []
    if measured != list(range(1, steps + 1)):
        faults.append(f"metrics.jsonl has the steps {measured}")
    return faults


def _line(name: str, ending: Ending) -> str:
    how = f"{ending.kill.signal.name} ({ending.kill.aim}) in {ending.activity}" if ending.kill else "not killed"
    resumed = "" if ending.resumed_from is None else f", resumed from {ending.resumed_from}"
    return f"{name}: {how} at step {ending.step}{resumed}; exit {ending.code}; {ending.durations.run:.1f} s"
