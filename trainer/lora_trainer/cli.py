"""`lora-trainer preflight|train|cleanup --job FILE`: all the interface there is, in a pod and on a laptop.

Here exceptions become exit codes and the termination message. The stories are in `preflight`, `train` and
`cleanup`.
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pydantic import ValidationError

from lora_api.exit_codes import ExitCode
from lora_api.job_file import JobFile
from lora_api.messages import Activity
from lora_api.names import JOB_FILE_PATH
from lora_trainer.errors import LostTouchError, TrainerError, invalid_request
from lora_trainer.launch import is_first, launch, leave_last_words, needs_launcher
from lora_trainer.logs import log, log_to_file, log_to_stdout, logger
from lora_trainer.measured import measured_curve
from lora_trainer.progress import ProgressState, serve_progress
from lora_trainer.signals import StopSignal
from lora_trainer.termination import Outcome, as_trainer_error, failure_message, with_findings
from lora_trainer.workspace import leave_torch_out, open_workspace, prepare_environment

if TYPE_CHECKING:
    from lora_trainer.context import Context

_COMMANDS = ("preflight", "train", "cleanup")
_WATCHED = ("preflight", "train")
"""Commands that serve their progress and leave records. Those of a clean-up would fill the folder again."""
_NO_STORAGE = (ExitCode.SERVICE_UNAVAILABLE, ExitCode.NO_PERMISSION)
"""After these ends the records are not uploaded: it would only take a dead server's time once more."""


def main() -> None:
    """Run one command and exit with its code."""
    arguments = _parse(sys.argv[1:])
    if arguments.command != "train":
        leave_torch_out()
    code = run(arguments.command, arguments.job)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # not sys.exit, which waits for threads that still download after a signal


def run(command: str, job_file: Path, stop: StopSignal | None = None) -> ExitCode:
    """Run a command, leave its last words, and return the exit code. Raises nothing."""
    log_to_stdout()
    try:
        job = read_job(job_file)
    except TrainerError as error:
        return _end(Outcome(error.exit_code, failure_message(error, None)))
    if command == "train" and needs_launcher(job, os.environ):
        return _end(launch(job, job_file))
    return _end(_run_here(command, job, stop or StopSignal()))


def _run_here(command: str, job: JobFile, stop: StopSignal) -> Outcome:
    """Run a command in this process."""
    progress, context = ProgressState(), None
    speaks = command in _WATCHED and is_first(os.environ)
    server = serve_progress(progress) if speaks else None
    try:
        stop.install()
        if server is not None:
            log("progress served", port=server.server_port)
        context = _open(job, stop, progress)
        log("started", command=command, namespace=job.namespace, name=job.name, run=job.run)
        outcome = _story(command)(context)
        progress.enter(Activity.FINISHED)
        log(outcome.message.message)
    except BaseException as caught:  # the process ends here, whatever it was
        error = as_trainer_error(caught)
        logger.error(str(error), exc_info=caught, extra={"fields": {"exitCode": int(error.exit_code)}})
        message = failure_message(error, progress.current.step or None)
        outcome = Outcome(
            error.exit_code,
            message,
            can_shrink=getattr(error, "can_shrink", False),
            consequence=isinstance(error, LostTouchError),
        )
    stop.ignore()
    curve = measured_curve(context.workspace.metrics) if context is not None else None
    outcome = replace(outcome, message=with_findings(outcome.message, progress.current, curve))
    if context is not None and speaks and outcome.code not in _NO_STORAGE:
        _upload_records(context)
    if server is not None:
        server.shutdown()
        server.server_close()
    return outcome


def _end(outcome: Outcome) -> ExitCode:
    leave_last_words(outcome)
    return outcome.code


def read_job(path: Path) -> JobFile:
    """Return the job. Raises a `TrainerError` (64) that names each wrong field."""
    try:
        return JobFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise invalid_request(f"{path}: {error.strerror}", "name the job file with --job") from None
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, each['loc'])) or path}: {each['msg']}" for each in error.errors()]
        raise invalid_request("; ".join(faults[:5]), "correct the job file") from None


def _open(job: JobFile, stop: StopSignal, progress: ProgressState) -> "Context":
    """Set up everything that the steps of a command share."""
    workspace = open_workspace(f"{job.namespace}-{job.name}-{job.run}-{os.environ.get('RANK', '0')}")
    prepare_environment(workspace)
    log_to_file(workspace.log)
    # Imported now, when the environment is set: boto3 and transformers read it on import.
    from lora_trainer.context import Context
    from lora_trainer.storage.access import Storage

    return Context(job, Storage(job.spec.storage), workspace, stop, progress)


def _upload_records(context: "Context") -> None:
    from lora_trainer.records import upload_records

    upload_records(context)


def _story(command: str) -> "Callable[[Context], Outcome]":
    if command == "preflight":
        from lora_trainer.preflight import preflight

        return preflight
    if command == "cleanup":
        from lora_trainer.cleanup import cleanup

        return cleanup
    from lora_trainer.train import train

    return train


class _Parser(argparse.ArgumentParser):
    """A parser whose refusal is an invalid request, and not argparse's own exit code."""

    def error(self, message: str) -> NoReturn:
        """Say how the command is used, and exit with 64."""
        self.print_usage(sys.stderr)
        self.exit(ExitCode.INVALID_REQUEST, f"{self.prog}: {message}\n")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="lora-trainer", description="Check and train one LoRA job, or remove what it stored.")
    parser.add_argument("command", choices=_COMMANDS)
    parser.add_argument("--job", type=Path, default=Path(JOB_FILE_PATH), help=f"job file (default: {JOB_FILE_PATH})")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
