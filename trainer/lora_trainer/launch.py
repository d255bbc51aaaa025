"""Several processes that train together: started by torchrun, watched, and answered for by this one.

The parent of all of them is what the pod runs. It trains nothing itself: it passes signals on, waits, and tells with
one exit code and one message what happened, which is what the process said that failed first. Without several GPUs or
nodes nothing here is used.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from lora_api.exit_codes import ExitCode
from lora_api.job_file import JobFile
from lora_api.messages import TerminationMessage
from lora_trainer.errors import internal
from lora_trainer.logs import log, warn
from lora_trainer.termination import Outcome, failure_message, write_termination_message

OUTCOMES_VARIABLE = "LORA_OUTCOMES"
"""Folder where the workers leave their last words; set for workers only."""
CPU_PROCESSES_VARIABLE = "LORA_CPU_PROCESSES"
"""Processes of a job without GPUs, for trying out on a laptop what several devices do."""
SMALLER_VARIABLE = "LORA_MICRO_BATCH_DIVISOR"
"""By how much the micro-batch is divided after a device ran out of memory."""
NODE_RANK_VARIABLE, MASTER_VARIABLE = "LORA_NODE_RANK", "LORA_MASTER_ADDRESS"
"""Set by the operator where several pods train together."""

_MASTER_PORT = 29500
_SHUTDOWN_SECONDS = 110
"""Time for the last checkpoint before torchrun kills; the operator gives a pod 120 s."""
_LARGEST_DIVISOR = 256


def processes_of(job: JobFile, environment: Mapping[str, str]) -> int:
    """Return how many processes a node runs: one a GPU."""
    return job.spec.resources.gpus or int(environment.get(CPU_PROCESSES_VARIABLE, "1"))


def needs_launcher(job: JobFile, environment: Mapping[str, str]) -> bool:
    """Whether this process is to start others, and not to train itself."""
    several = processes_of(job, environment) > 1 or job.spec.resources.nodes > 1
    return several and not is_worker(environment)


def is_worker(environment: Mapping[str, str]) -> bool:
    """Whether this process was started by a launcher."""
    return OUTCOMES_VARIABLE in environment


def is_first(environment: Mapping[str, str]) -> bool:
    """Whether this process speaks for all that train together."""
    return environment.get("RANK", "0") == "0"


def micro_batch_divisor(environment: Mapping[str, str]) -> int:
    """Return by how much the launcher wants the micro-batch divided."""
    return int(environment.get(SMALLER_VARIABLE, "1"))


def launch(job: JobFile, job_file: Path) -> Outcome:
    """Run the workers to their end, with smaller micro-batches where a device runs out of memory.

    All ranks start again from the last checkpoint then: one rank alone cannot repeat a step that others wait in.
    """
    divisor = 1
    while True:
        outcome = _run_once(job, job_file, divisor)
        if not outcome.can_shrink or divisor >= _LARGEST_DIVISOR or job.spec.resources.nodes > 1:
            return outcome
        divisor *= 2
        warn("out of memory; all ranks start again with smaller micro-batches", divisor=divisor)


def leave_last_words(outcome: Outcome) -> None:
    """Say how this process ended: a worker to its launcher, any other to whoever looks at the pod."""
    if not is_worker(os.environ):
        write_termination_message(outcome.message)
        return
    path = Path(os.environ[OUTCOMES_VARIABLE]) / f"{os.environ['RANK']}.json"
    content = {"code": int(outcome.code), "message": outcome.message.wire(), "canShrink": outcome.can_shrink}
    path.write_text(json.dumps(content))


def command_of(job: JobFile, job_file: Path, environment: Mapping[str, str]) -> list[str]:
    """Return torchrun's command line."""
    nodes = job.spec.resources.nodes
    place = ["--standalone"]
    if nodes > 1:
        master = environment.get(MASTER_VARIABLE, "localhost")
        rank = environment.get(NODE_RANK_VARIABLE) or environment.get("JOB_COMPLETION_INDEX", "0")
        place = [f"--nnodes={nodes}", f"--node-rank={rank}", f"--master-addr={master}", f"--master-port={_MASTER_PORT}"]
    return [
        *(sys.executable, "-m", "torch.distributed.run", *place),
        f"--nproc-per-node={processes_of(job, environment)}",
        *("--max-restarts=0", f"--shutdown-timeout={_SHUTDOWN_SECONDS}"),
        *("--module", "lora_trainer.cli", "train", "--job", str(job_file)),
    ]


def _run_once(job: JobFile, job_file: Path, divisor: int) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="outcomes-") as folder:
        environment = os.environ | {OUTCOMES_VARIABLE: folder, SMALLER_VARIABLE: str(divisor)}
        command = command_of(job, job_file, os.environ)
        log("starting workers", processes=processes_of(job, os.environ), nodes=job.spec.resources.nodes)
        with subprocess.Popen(command, env=environment) as process:  # noqa: S603 - this interpreter, our own module
            _pass_signals_on(process)
            code = process.wait()
        return _outcome_of(Path(folder), code)


def _pass_signals_on(process: "subprocess.Popen[bytes]") -> None:
    def handle(number: int, _frame: FrameType | None) -> None:
        process.send_signal(number)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


def _outcome_of(folder: Path, code: int) -> Outcome:
    """Return the failure that came first and is no mere consequence of another's; else what the lowest rank says."""
    paths = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    found = {int(path.stem): _read(path) for path in paths}
    failures = [each for each in found.values() if each.code not in (ExitCode.DONE, ExitCode.INTERRUPTED)]
    if failures:
        return failures[0]
    lowest = found.get(min(found, default=0))
    if lowest is not None and (code == 0 or lowest.code != ExitCode.DONE):
        return lowest
    error = internal(f"a worker ended without a word (torchrun exit code {code})", "see the log of the pod")
    return Outcome(error.exit_code, failure_message(error, None))


def _read(path: Path) -> Outcome:
    content = json.loads(path.read_text())
    message = TerminationMessage.model_validate(content["message"])
    return Outcome(ExitCode(content["code"]), message, content["canShrink"])
