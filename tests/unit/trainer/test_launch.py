"""Several processes end with one exit code and one message: an own failure first, another pod's end as a disruption."""

import os
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lora_api.exit_codes import ExitCode
from lora_api.job_file import JobFile
from lora_api.loss_curve import CurvePoint
from lora_api.messages import SavedCheckpoint, TerminationMessage
from lora_trainer import launch, meeting, workers
from lora_trainer.launch import needs_launcher, outcome_of, place_of, processes_of
from lora_trainer.termination import Outcome
from lora_trainer.workers import Ended, Group, leave_words, run_workers
from support.s3server import free_port
from support.specs import SMALLEST


def job(**resources):
    return JobFile(namespace="team-a", name="bot", spec=SMALLEST | {"resources": resources})


@pytest.mark.parametrize(
    ("resources", "environment", "processes", "needed"),
    [
        ({"gpus": 1}, {}, 1, False),
        ({"gpus": 4}, {}, 4, True),
        ({"gpus": 0}, {}, 1, False),
        ({"gpus": 0}, {"LORA_CPU_PROCESSES": "2"}, 2, True),
        ({"gpus": 1, "nodes": 2}, {}, 1, True),
        ({"gpus": 4}, {"LORA_OUTCOMES": "/tmp/x"}, 4, False),
    ],
    ids=["one GPU", "four GPUs", "CPU", "CPU twice", "two nodes", "a worker"],
)
def test_a_launcher_is_used_where_several_processes_train_together(resources, environment, processes, needed):
    assert processes_of(job(**resources), environment) == processes
    assert needs_launcher(job(**resources), environment) is needed


def test_a_pod_of_an_indexed_job_finds_the_others_by_the_first_one():
    environment = {"LORA_MASTER_ADDRESS": "bot-1-train-0.bot-1", "JOB_COMPLETION_INDEX": "1"}
    place = place_of(job(gpus=8, nodes=2), environment)
    assert (place.node, place.nodes, place.address, place.port) == (1, 2, "bot-1-train-0.bot-1", 29500)


def test_pods_of_another_run_or_another_spec_are_others():
    places = [
        job(gpus=1, nodes=2),
        job(gpus=1, nodes=2).model_copy(update={"run": 2}),
        job(gpus=1, nodes=2).model_copy(update={"uid": "u-2"}),
        JobFile(namespace="team-a", name="bot", spec=SMALLEST | {"lora": {"rank": 8}}),
    ]
    assert len({place_of(each, {}).run for each in places}) == len(places)


def test_a_worker_is_told_its_place_among_all():
    environment = Group(processes=4, node=1, nodes=2, address="10.0.0.1", port=4711).environment_of(2)
    assert environment == {
        "RANK": "6",
        "LOCAL_RANK": "2",
        "WORLD_SIZE": "8",
        "LOCAL_WORLD_SIZE": "4",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "4711",
    }


CHECKPOINT = SavedCheckpoint(step=4, uri="s3://models/x", time=datetime(2026, 1, 1, tzinfo=UTC))
CURVE = [CurvePoint(step=1, loss=2.5), CurvePoint(step=5, loss=2.0)]


class OtherPods:
    """What the launcher knows of the other pods, as a test wants it."""

    def __init__(self, *, several=False, lost=False, done=True):
        self.several, self._lost, self._done = several, lost, done
        self.told = False

    def say_done(self):
        self.told = True

    def wait_done(self):
        return self._done

    def wait_lost(self, _):
        return self._lost


ALONE, ALL_THERE, ONE_GONE = {}, {"several": True}, {"several": True, "lost": True, "done": False}


def said(rank, code, exit_code=None, *, consequence=False, told=False):
    message = TerminationMessage(reason="Whatever", message=f"of rank {rank}", step=5)
    if rank == 0:
        message = message.model_copy(update={"checkpoint": CHECKPOINT, "loss_curve": CURVE})
    words = Outcome(ExitCode(code), message, consequence=consequence)
    return Ended(rank, code if exit_code is None else exit_code, words, told)


def silent(rank, exit_code, *, told=False):
    return Ended(rank, exit_code, None, told)


DISRUPTED = "another pod of this run has gone"
WORDLESS = "a worker ended without a word"


@pytest.mark.parametrize(
    ("ended", "others", "signalled", "code", "words"),
    [
        ([said(1, 0), said(0, 0)], ALONE, False, 0, "of rank 0"),
        ([said(1, 75), said(0, 75)], ALONE, True, 75, "of rank 1"),
        ([said(1, 80), said(0, 75)], ALONE, False, 80, "of rank 1"),
        ([said(1, 71), said(0, 70)], ALONE, False, 71, "of rank 1"),
        ([said(1, 82), said(0, 75, consequence=True, told=True)], ALONE, False, 82, "of rank 1"),
        ([silent(1, -9), said(0, 75, consequence=True)], ALONE, False, 70, f"{WORDLESS} (SIGKILL)"),
        ([said(0, 0), silent(1, -11)], ALONE, False, 70, f"{WORDLESS} (SIGSEGV)"),
        ([said(0, 0), silent(1, 1)], ALONE, False, 70, f"{WORDLESS} (exit code 1)"),
        ([silent(0, -15), said(1, 75)], ALONE, True, 75, "of rank 1"),
        ([silent(0, -9), silent(1, -9)], ALONE, True, 75, "stopped by a signal"),
        ([said(0, 75, consequence=True)], ALONE, False, 70, "the processes lost touch with each other"),
        ([said(0, 0)], ALL_THERE, False, 0, "of rank 0"),
        ([said(0, 0)], ONE_GONE, False, 0, "of rank 0"),
        ([said(2, 0)], ALL_THERE, False, 0, "of rank 2"),
        ([said(2, 0)], ONE_GONE, False, 75, DISRUPTED),
        ([said(0, 75, consequence=True)], ONE_GONE, False, 75, DISRUPTED),
        ([said(0, 75, consequence=True)], ALL_THERE, False, 70, "the processes lost touch with each other"),
        ([silent(2, -6), silent(3, -9, told=True)], ONE_GONE, False, 75, DISRUPTED),
        ([silent(2, -6)], ALL_THERE, False, 70, "the processes lost touch with each other"),
        ([silent(2, -9)], ONE_GONE, False, 70, f"{WORDLESS} (SIGKILL)"),
        ([silent(2, -9, told=True)], ONE_GONE, False, 75, DISRUPTED),
        ([said(2, 80)], ONE_GONE, False, 80, "of rank 2"),
        ([said(2, 80, told=True), said(3, 75, consequence=True, told=True)], ONE_GONE, False, 80, "of rank 2"),
        ([said(0, 75, told=True)], ONE_GONE, False, 75, "of rank 0"),
    ],
    ids=[
        "done",
        "stopped",
        "one failed, the other was stopped",
        "the first failure",
        "one stalled, the other was told",
        "one was killed, the other lost touch",
        "one crashed after the end of the other",
        "one never began",
        "one was stopped before it could say so",
        "none had time for a word",
        "lost touch with nobody missing",
        "several pods: done",
        "several pods: the first one is done, whatever others do",
        "several pods: another one is done when the first one is",
        "several pods: done, and the first one has gone",
        "several pods: lost touch",
        "several pods: lost touch, and all are there",
        "several pods: aborted by NCCL",
        "several pods: aborted, and all are there",
        "several pods: killed, and the others go for that",
        "several pods: hung, and told to end",
        "several pods: an own failure is not masked",
        "several pods: an own failure after another went",
        "several pods: all agreed to stop",
    ],
)
def test_the_end_of_a_pod(ended, others, signalled, code, words):
    first = min(each.rank for each in ended) == 0
    outcome = outcome_of(ended, OtherPods(**others), first=first, signalled=signalled)
    assert (outcome.code, outcome.message.message[: len(words)]) == (code, words)


def test_a_pod_that_is_done_tells_the_others_and_one_that_failed_does_not():
    for code, told in ((0, True), (80, False)):
        others = OtherPods(several=True)
        outcome_of([said(0, code)], others, first=True, signalled=False)
        assert others.told is told


@pytest.mark.parametrize(
    "ended",
    [[said(1, 80), said(0, 75)], [silent(1, -9), said(0, 75, consequence=True)], [said(0, 75, consequence=True)]],
    ids=["a failure", "a crash", "a disruption"],
)
def test_whatever_the_end_the_newest_checkpoint_and_the_losses_are_told(ended):
    outcome = outcome_of(ended, OtherPods(several=True, lost=True), first=True, signalled=False)
    assert (outcome.message.checkpoint, outcome.message.loss_curve) == (CHECKPOINT, CURVE)


def test_a_disruption_says_where_the_next_attempt_goes_on():
    outcome = outcome_of(
        [said(0, 75, consequence=True)], OtherPods(several=True, lost=True), first=True, signalled=False
    )
    assert outcome.message.hint == "the checkpoint of step 4 is saved; the next attempt goes on from it"
    assert (outcome.message.reason, outcome.message.step) == ("Interrupted", 5)


WORKER = """
import os, pathlib, signal, sys, time
rank, folder = os.environ["RANK"], pathlib.Path(os.environ["LORA_OUTCOMES"])
{body}
"""
ENDLESS = "time.sleep(600)"


def run(body, *, processes=2, gone=lambda: False):
    group = Group(processes=processes, node=0, nodes=1, address="127.0.0.1", port=1)
    return run_workers([sys.executable, "-c", WORKER.format(body=body)], group, {}, gone)


def test_workers_that_end_well_are_waited_for():
    ended, signalled = run("pass")
    assert [each.code for each in ended] == [0, 0]
    assert not signalled


def test_one_that_dies_ends_the_others_which_are_told_so():
    tell = "while not (folder / 'gone').exists(): time.sleep(0.01)"
    ended, _ = run(f"if rank == '1': os.kill(os.getpid(), 9)\n{tell}\nos._exit(75)")
    assert [(each.rank, each.code, each.told) for each in ended] == [(1, -9, False), (0, 75, True)]


def test_those_that_do_not_end_when_others_have_gone_are_killed(monkeypatch):
    monkeypatch.setattr(workers, "FAREWELL_SECONDS", 0.5)
    ended, _ = run(ENDLESS, gone=lambda: True)
    assert [(each.code, each.told) for each in ended] == [(-9, True), (-9, True)]


def test_a_signal_reaches_all_of_them(tmp_path):
    started = tmp_path / "started"
    body = f"signal.signal(15, lambda *_: os._exit(75))\nopen('{started}-' + rank, 'w').close()\n{ENDLESS}"

    def stop_when_started():
        if all(Path(f"{started}-{rank}").exists() for rank in range(2)):
            os.kill(os.getpid(), signal.SIGTERM)
        return False

    before = signal.getsignal(signal.SIGTERM)
    ended, signalled = run(body, gone=stop_when_started)
    assert [each.code for each in ended] == [75, 75]
    assert signalled
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_pod_that_is_stopped_while_it_waits_for_the_others_is_interrupted(tmp_path, monkeypatch):
    monkeypatch.setenv("LORA_RENDEZVOUS_PORT", str(free_port()))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    gathering = meeting._gather

    def stopped(*arguments):
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return gathering(*arguments)

    monkeypatch.setattr(meeting, "_gather", stopped)
    try:
        outcome = launch.launch(job(gpus=1, nodes=2), tmp_path / "job.json")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (outcome.code, outcome.message.message) == (ExitCode.INTERRUPTED, "stopped by SIGTERM")


def test_the_last_words_of_a_worker_come_back_whole(tmp_path, monkeypatch):
    outcome = said(0, 75, consequence=True).words
    leave_words(tmp_path, "0", Outcome(ExitCode.DIVERGED, outcome.message))
    leave_words(tmp_path, "0", outcome)
    assert workers._read(tmp_path / "0.json") == outcome
    assert workers._read(tmp_path / "1.json") is None
    monkeypatch.setenv("LORA_OUTCOMES", str(tmp_path))
    monkeypatch.setenv("RANK", "1")
    launch.leave_last_words(outcome)
    assert workers._read(tmp_path / "1.json") == outcome


def test_out_of_memory_starts_all_again_with_smaller_micro_batches(tmp_path, monkeypatch):
    tried = []

    def run_once(_job, _file, divisor):
        tried.append(divisor)
        words = said(0, 71 if divisor < 4 else 0).words
        return Outcome(words.code, words.message, can_shrink=divisor < 4)

    monkeypatch.setattr(launch, "_run_once", run_once)
    outcome = launch.launch(job(gpus=2), tmp_path / "job.json")
    assert (tried, outcome.code) == ([1, 2, 4], ExitCode.DONE)
