"""Several processes that train together: started, watched and answered for by this one.

The parent of all of them is what the pod runs. It trains nothing itself: it meets the launchers of the other pods,
passes signals on, waits, and tells with one exit code and one message what happened. An own failure of this pod is what
the process said that failed first; where a pod only suffers from what happened to another one, it is a disruption.
Without several GPUs or nodes nothing here is used.
"""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from lora_api.exit_codes import ExitCode
from lora_api.job_file import JobFile
from lora_api.names import MASTER_ADDRESS_VARIABLE, RENDEZVOUS_PORT
from lora_trainer.errors import TrainerError, internal
from lora_trainer.logs import log, warn
from lora_trainer.meeting import Peers, Place, meet
from lora_trainer.signals import InterruptionError, StopSignal
from lora_trainer.termination import Outcome, failure_message, write_termination_message
from lora_trainer.workers import OUTCOMES_VARIABLE, Ended, Group, leave_words, run_workers, worker_command

CPU_PROCESSES_VARIABLE = "LORA_CPU_PROCESSES"
"""Processes of a job without GPUs, for trying out on a laptop what several devices do."""
SMALLER_VARIABLE = "LORA_MICRO_BATCH_DIVISOR"
"""By how much the micro-batch is divided after a device ran out of memory."""
NODE_VARIABLE = "JOB_COMPLETION_INDEX"
"""Number of the pod among those of the run; an Indexed Job sets it."""
PORT_VARIABLE = "LORA_RENDEZVOUS_PORT"
"""Another port at which the pods meet, for several runs on one machine."""

_LARGEST_DIVISOR = 256
_NEWS_SECONDS = 10.0
"""How long to wait for the news that another pod has gone, after an end that looks like it."""
_FINDINGS = ("checkpoint", "micro_batch_size", "overfitting", "loss_curve")


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
    if is_worker(os.environ):
        leave_words(Path(os.environ[OUTCOMES_VARIABLE]), os.environ["RANK"], outcome)
    else:
        write_termination_message(outcome.message)


def place_of(job: JobFile, environment: Mapping[str, str]) -> Place:
    """Return where this pod stands among those of its run."""
    return Place(
        node=int(environment.get(NODE_VARIABLE, "0")),
        nodes=job.spec.resources.nodes,
        address=environment.get(MASTER_ADDRESS_VARIABLE, "localhost"),
        port=int(environment.get(PORT_VARIABLE, RENDEZVOUS_PORT)),
        run=f"{job.namespace}/{job.name}/{job.uid}/{job.run}/{job.spec.result_digest()}",
    )


def _run_once(job: JobFile, job_file: Path, divisor: int) -> Outcome:
    place, stop = place_of(job, os.environ), StopSignal()
    stop.install()
    try:
        peers = meet(place, job.spec.failure_policy.stall_timeout_seconds)
        try:
            group = Group(processes_of(job, os.environ), place.node, place.nodes, peers.address, peers.port)
            log("starting workers", processes=group.processes, nodes=group.nodes)
            smaller = {SMALLER_VARIABLE: str(divisor)}
            ended, signalled = run_workers(worker_command(job_file), group, smaller, lambda: peers.lost)
            return outcome_of(ended, peers, first=place.node == 0, signalled=signalled)
        finally:
            peers.close()
    except TrainerError as error:
        return Outcome(error.exit_code, failure_message(error, None))
    finally:
        stop.ignore()


def outcome_of(ended: Sequence[Ended], peers: Peers, *, first: bool, signalled: bool) -> Outcome:
    """Return the end of this pod, from those of its workers, the first one first."""
    lowest = min(ended, key=lambda each: each.rank)
    own = _own_failure(ended, signalled=signalled, several_pods=peers.several)
    if own is not None:
        return _with_findings(own, lowest.words)
    if all(each.code == ExitCode.DONE for each in ended) and lowest.words is not None:
        peers.say_done()
        # A Job does not replace a pod that has ended well, and a first pod that is started anew would wait for it in
        # vain. So none ends well before the first one has.
        return lowest.words if first or peers.wait_done() else _disrupted(lowest.words)
    agreed = [each.words for each in ended if each.words is not None and _is_interruption(each.words)]
    if agreed or signalled:
        return _with_findings(agreed[0], lowest.words) if agreed else _interruption("stopped by a signal", lowest.words)
    if peers.wait_lost(_NEWS_SECONDS):
        return _disrupted(lowest.words)
    error = internal("the processes lost touch with each other, and none says why", "see the log of the pod")
    return _with_findings(Outcome(error.exit_code, failure_message(error, None)), lowest.words)


def _own_failure(ended: Sequence[Ended], *, signalled: bool, several_pods: bool) -> Outcome | None:
    """Return the failure that came first and is no consequence of another's."""
    for each in ended:
        if each.words is not None and each.words.code not in (ExitCode.DONE, ExitCode.INTERRUPTED):
            return each.words
    for each in ended:
        silent = each.words is None or (each.words.code == ExitCode.DONE and each.code != ExitCode.DONE)
        # NCCL aborts a process whose peer has gone.
        aborted = several_pods and each.code == -signal.SIGABRT
        if silent and not (each.told or signalled or aborted):
            error = internal(f"a worker ended without a word ({_ending(each.code)})", "see the log of the pod")
            return Outcome(error.exit_code, failure_message(error, None))
    return None


def _is_interruption(words: Outcome) -> bool:
    """Whether a worker was stopped by a signal, about which all agree."""
    return words.code == ExitCode.INTERRUPTED and not words.consequence


def _disrupted(words: Outcome | None) -> Outcome:
    return _interruption("another pod of this run has gone", words)


def _interruption(message: str, words: Outcome | None) -> Outcome:
    """Return a disruption that names the newest checkpoint as far as a worker has told it."""
    checkpoint = words.message.checkpoint if words else None
    step = words.message.step if words else None
    error = InterruptionError(message, checkpoint.step if checkpoint else None)
    return _with_findings(Outcome(error.exit_code, failure_message(error, step)), words)


def _with_findings(outcome: Outcome, words: Outcome | None) -> Outcome:
    """Add what the operator should keep and the first worker alone may know."""
    if words is None:
        return outcome
    found = {name: getattr(words.message, name) for name in _FINDINGS if getattr(outcome.message, name) is None}
    return Outcome(outcome.code, outcome.message.model_copy(update=found), outcome.can_shrink)


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
