"""An adapter is trained again from nothing but its manifest: the same weights and the same digest, byte for byte."""

import hashlib
import json
from pathlib import Path

import yaml

from integration.trainer.conftest import conversations, keys, put_rows
from lora_api.artifacts import Manifest
from lora_api.exit_codes import ExitCode
from lora_api.job_file import JobFile
from lora_cli import main
from lora_cli.job import read_job

SETTINGS = {"precision": "FP32", "learningRate": 0.01}


def test_a_job_on_this_machine(tiny_base, lora_trainer, tmp_path, capsys):
    """With file:// there is no server at all; the second one writes into another folder, under another name."""
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data/train.jsonl", 24)
    spec = {
        "baseModel": {"uri": f"file://{tiny_base}"},
        "dataset": {"train": {"uri": f"file://{tmp_path}/data/train.jsonl"}, "validation": {"fraction": 0.25}},
        "output": {"uri": f"file://{tmp_path}/first"},
        "training": {"maxSteps": 2} | SETTINGS,
        "resources": {"gpus": 0},
    }
    first = train(lora_trainer, tmp_path, JobFile(namespace="team-a", name="bot", uid="u-1", spec=spec))
    folder = Path(first.removeprefix("file://"))

    again = reproduced(folder, tmp_path, capsys, output=f"file://{tmp_path}/second")
    other = again.model_copy(update={"namespace": "team-b", "name": "other", "uid": "u-2", "run": 3})
    second = Path(train(lora_trainer, tmp_path, other).removeprefix("file://"))
    assert second.is_relative_to(tmp_path / "second/team-b/other/adapters")
    assert_same(folder, second)


def test_a_job_with_settings_that_no_guess_would_find(s3, bucket, s3_server, job, lora_trainer, tmp_path, capsys):
    put_rows(s3, bucket, [{"turns": each["messages"]} for each in conversations(16)], "turns.jsonl")
    put_rows(s3, bucket, conversations(6), "held-out.jsonl")
    dataset = {
        "train": {"uri": f"s3://{bucket}/train.jsonl"},
        "mixture": [{"uri": f"s3://{bucket}/tur?s.jsonl", "weight": 0.5, "columns": {"messages": "turns"}}],
        "validation": {"uri": f"s3://{bucket}/held-out.jsonl"},
    }
    path = job(
        dataset=dataset,
        lora={"rank": 4, "alpha": 8, "dropout": 0.1, "rsLoRA": True, "rankPattern": {"q_proj": 2}},
        training={"epochs": 0.5, "effectiveBatchSize": 4, "seed": 7, "scheduler": "Linear"} | SETTINGS,
        evaluation={"metrics": ["perplexity"], "retention": {"uri": f"s3://{bucket}/train.jsonl"}},
    )
    first = fetch(s3, train(lora_trainer, tmp_path, JobFile.model_validate_json(path.read_text())), tmp_path / "a")

    again = reproduced(first, tmp_path, capsys, output=f"s3://{bucket}/elsewhere")
    storage = {"endpoint": s3_server.endpoint, "pathStyle": True}
    again = JobFile.model_validate(again.wire() | {"spec": again.spec.wire() | {"storage": storage}})
    second = fetch(s3, train(lora_trainer, tmp_path, again), tmp_path / "b")
    assert_same(first, second)


def write_rows(path, count):
    path.write_text("\n".join(map(json.dumps, conversations(count))))


def fetch(s3, uri, folder):
    """Download an adapter, and return its folder."""
    folder.mkdir()
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    for key in keys(s3, bucket, f"{prefix}/"):
        s3.download_file(bucket, key, str(folder / key.rpartition("/")[2]))
    return folder


def train(lora_trainer, folder, job):
    """Run preflight and training of a job, and return where its adapter lies."""
    path = folder / "job.json"
    path.write_text(job.encode())
    assert lora_trainer("preflight", path)[0] == ExitCode.DONE
    code, message = lora_trainer("train", path)
    assert code == ExitCode.DONE, message
    return message.adapter.uri


def reproduced(folder, place, capsys, output):
    """Return the job that `kubectl lora reproduce` writes, as `kubectl lora run --output` reads it."""
    capsys.readouterr()
    assert main.run(["reproduce", str(folder)]) == 0
    text = capsys.readouterr().out
    assert [each for each in text.splitlines() if each.startswith("# CHECK") and "file://" not in each] == []
    (place / "again.yaml").write_text(text)
    assert yaml.safe_load(text)["spec"]["resources"]["gpus"] == 0
    return read_job(place / "again.yaml", output=output)


def assert_same(first, second):
    """The adapter, its name and what was asked for are the same, apart from where it was to go."""
    weights = [
        hashlib.sha256((each / "adapter_model.safetensors").read_bytes()).hexdigest() for each in (first, second)
    ]
    assert weights[0] == weights[1]
    before, after = (Manifest.model_validate_json((each / "manifest.json").read_bytes()) for each in (first, second))
    assert after.digest == before.digest
    assert after.request.spec == before.request.spec | {"output": after.request.spec["output"]}
    assert (before.metrics, before.seed, before.step) == (after.metrics, after.seed, after.step)
