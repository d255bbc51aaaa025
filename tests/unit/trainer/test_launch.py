"""Several processes end with one exit code and one message: that of the one which failed first."""

import json
import os

import pytest

from lora_api.exit_codes import ExitCode
from lora_api.job_file import JobFile
from lora_trainer import launch
from lora_trainer.launch import command_of, needs_launcher, processes_of
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


def test_one_node_needs_no_address(tmp_path):
    command = command_of(job(gpus=4), tmp_path / "job.json", {})
    assert {"--standalone", "--nproc-per-node=4", "--max-restarts=0"} <= set(command)
    assert command[-4:] == ["lora_trainer.cli", "train", "--job", str(tmp_path / "job.json")]


def test_a_pod_of_an_indexed_job_finds_the_others_by_the_first_one(tmp_path):
    environment = {"LORA_MASTER_ADDRESS": "bot-1-train-0.bot-1", "JOB_COMPLETION_INDEX": "1"}
    command = command_of(job(gpus=8, nodes=2), tmp_path / "job.json", environment)
    assert {"--nnodes=2", "--node-rank=1", "--master-addr=bot-1-train-0.bot-1", "--nproc-per-node=8"} <= set(command)


def leave(folder, rank, code, *, age, shrink=False):
    path = folder / f"{rank}.json"
    message = {"reason": "Whatever", "message": f"of rank {rank}"}
    path.write_text(json.dumps({"code": code, "message": message, "canShrink": shrink}))
    os.utime(path, ns=(age, age))


@pytest.mark.parametrize(
    ("ends", "torchrun", "code", "speaker"),
    [
        ([(0, 0, 20), (1, 0, 10)], 0, ExitCode.DONE, 0),
        ([(0, 75, 20), (1, 75, 10)], 1, ExitCode.INTERRUPTED, 0),
        ([(0, 75, 20), (1, 80, 10)], 1, ExitCode.DIVERGED, 1),
        ([(0, 70, 20), (1, 71, 10)], 1, ExitCode.OUT_OF_GPU_MEMORY, 1),
        ([(1, 75, 10)], 1, ExitCode.INTERRUPTED, 1),
    ],
    ids=["done", "stopped", "one failed, the other was stopped", "the first failure", "rank 0 said nothing"],
)
def test_the_end_of_all_workers(tmp_path, ends, torchrun, code, speaker):
    for rank, exit_code, age in ends:
        leave(tmp_path, rank, exit_code, age=age)
    outcome = launch._outcome_of(tmp_path, torchrun)
    assert (outcome.code, outcome.message.message) == (code, f"of rank {speaker}")


@pytest.mark.parametrize(("ends", "torchrun"), [([], 1), ([(0, 0, 10)], 1)], ids=["no word", "rank 1 was killed"])
def test_a_worker_that_was_killed_is_an_internal_error(tmp_path, ends, torchrun):
    for rank, exit_code, age in ends:
        leave(tmp_path, rank, exit_code, age=age)
    outcome = launch._outcome_of(tmp_path, torchrun)
    assert outcome.code == ExitCode.INTERNAL_ERROR
    assert "a worker ended without a word" in outcome.message.message


def test_out_of_memory_starts_all_again_with_smaller_micro_batches(tmp_path, monkeypatch):
    tried = []

    def run_once(_job, _file, divisor):
        tried.append(divisor)
        leave(tmp_path, 0, 71 if divisor < 4 else 0, age=divisor, shrink=divisor < 4)
        return launch._outcome_of(tmp_path, 0 if divisor == 4 else 1)

    monkeypatch.setattr(launch, "_run_once", run_once)
    outcome = launch.launch(job(gpus=2), tmp_path / "job.json")
    assert (tried, outcome.code) == ([1, 2, 4], ExitCode.DONE)
