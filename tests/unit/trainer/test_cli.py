"""The job file: what is wrong in it is named, all of it at once, before anything is touched."""

import json

import pytest

from lora_api.exit_codes import ExitCode
from lora_trainer import cli
from lora_trainer.cli import read_job
from lora_trainer.errors import TrainerError

SPEC = {
    "baseModel": {"uri": "s3://models/base"},
    "dataset": {"train": {"uri": "s3://data/train.jsonl"}},
    "output": {"uri": "s3://models"},
}


def read(tmp_path, spec):
    path = tmp_path / "job.json"
    path.write_text(json.dumps({"namespace": "team-a", "name": "bot", "spec": spec}))
    return read_job(path)


def test_the_shortest_job_is_read(tmp_path):
    assert read(tmp_path, SPEC).spec.lora.rank == 16


@pytest.mark.parametrize(
    "changes",
    [
        {"suspend": True},
        {"deletionPolicy": "Delete"},
        {"resources": {"gpus": 8, "nodes": 4, "gpuResourceName": "nvidia.com/mig-1g.10gb"}},
        {"scheduling": {"queueName": "team-a", "priorityClassName": "low"}},
        {"failurePolicy": {"maxFailures": 9, "maxDisruptions": 9, "activeDeadlineSeconds": 60}},
        {"ttlSecondsAfterFinished": 60},
        {"preflight": {"enabled": False}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_the_business_of_the_operator_is_no_problem_here(tmp_path, changes):
    assert read(tmp_path, SPEC | changes).spec


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lora": {"rank": 0}}, "spec.lora.rank: Input should be greater than or equal to 1"),
        ({"learningRate": 1}, "spec.learningRate: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, changes, words):
    with pytest.raises(TrainerError) as caught:
        read(tmp_path, SPEC | changes)
    assert caught.value.exit_code == ExitCode.INVALID_REQUEST
    assert words in caught.value.message


def test_a_missing_job_file_is_an_invalid_request(tmp_path):
    with pytest.raises(TrainerError, match="No such file"):
        read_job(tmp_path / "none.json")


@pytest.mark.parametrize("arguments", [[], ["clean"], ["train", "--jobs", "x"]])
def test_a_wrong_command_line_is_an_invalid_request(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli._parse(arguments)
    assert caught.value.code == ExitCode.INVALID_REQUEST
    assert "usage: lora-trainer" in capsys.readouterr().err
