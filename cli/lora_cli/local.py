"""`kubectl lora run`: the LoRAJob of a file, on this machine, through the same preflight, training and publication.

It decides nothing about the training: the trainer gets the job file that a pod would get, so the adapter has the same
digest as in the cluster.
"""

import fcntl
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_api.exit_codes import ExitCode
from lora_api.job_file import JobFile
from lora_api.messages import TerminationMessage
from lora_cli.display import Display, preflight_lines, result_json, result_lines, say
from lora_cli.errors import CliError, invalid
from lora_cli.trainer import Ended, WorkFolder, run_trainer

_TRAINER_NEEDS = ("torch", "transformers", "peft")


def default_work_folder() -> Path:
    """Return the folder that keeps base models between local runs: under the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "lora-operator"


def run_locally(job: JobFile, work: Path, *, as_json: bool) -> int:
    """Run a job to its end, print the result, and return the trainer's exit code."""
    folder = prepare(job, work)
    messages: dict[str, TerminationMessage] = {}
    with _alone(folder, job):
        folder.log.write_bytes(b"")
        for command in ("preflight", "train") if job.spec.preflight.enabled else ("train",):
            ended = _run_command(command, job, folder)
            messages[command] = ended.message
            if ended.code != ExitCode.DONE:
                break
    if as_json:
        print(result_json(ended.code, messages))
    else:
        for line in result_lines(ended.message):
            print(line)
    if ended.code != ExitCode.DONE:
        raise _failure(ended, folder)
    return ended.code


def missing_trainer_parts() -> list[str]:
    """Return the packages of the trainer that are not installed here."""
    return [name for name in _TRAINER_NEEDS if importlib.util.find_spec(name) is None]


def prepare(job: JobFile, work: Path, name: str | None = None) -> WorkFolder:
    """Write the job file into the work folder. Raises `CliError` when the trainer cannot run here.

    `name` keeps the files of something that is no run apart from those of one.
    """
    if missing := missing_trainer_parts():
        raise invalid(f"a local run needs {', '.join(missing)}", "pip install 'lora-operator[cli,trainer]'")
    folder = WorkFolder(work.absolute(), f"{job.namespace}-{job.name}" + (f".{name}" if name else ""))
    try:
        folder.job_file.parent.mkdir(parents=True, exist_ok=True)
        folder.job_file.write_text(job.encode(), encoding="utf-8")
    except OSError as error:
        raise invalid(f"{work}: {error.strerror}", "name a folder that can be written with --work") from None
    return folder


def _run_command(command: str, job: JobFile, folder: WorkFolder) -> Ended:
    display = Display(f"{job.name} ({command})")
    try:
        ended = run_trainer(command, folder, display.show)
    finally:
        display.close()
    if command == "preflight" and ended.code == ExitCode.DONE:
        for line in preflight_lines(ended.message):
            say(line)
    return ended


def _failure(ended: Ended, folder: WorkFolder) -> CliError:
    message = ended.message
    where = "" if ended.code == ExitCode.INTERRUPTED else f" [log: {folder.log}]"
    return CliError(ended.code, f"{message.reason}: {message.message}", f"{message.hint}{where}".strip())


@contextmanager
def _alone(folder: WorkFolder, job: JobFile) -> Iterator[None]:
    """Hold the lock of the job: two runs of one job would remove each other's files."""
    with folder.lock.open("wb") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise invalid(f"{job.name} is running here already", "wait for it, or use another --work") from None
        yield
