"""Every foreseen end: the exit code, and a message that names field, place and fix."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

from integration.trainer.conftest import conversations, keys, put_rows
from lora_api.exit_codes import ExitCode
from lora_api.messages import TerminationMessage
from lora_trainer.signals import InterruptionError
from lora_trainer.storage import s3 as s3_storage
from lora_trainer.storage.access import Storage
from lora_trainer.training.recorder import Recorder
from lora_trainer.training.trainer import LoraTrainer
from support.contradictory import CASES


def test_a_wrong_secret_is_no_permission(job, lora_trainer, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    code, message = lora_trainer("preflight", job())
    assert (code, message.reason) == (ExitCode.NO_PERMISSION, "NoPermission")
    assert "spec.output.uri: s3://" in message.message
    assert "spec.storage.credentialsSecretRef" in message.hint


@pytest.mark.parametrize("command", ["preflight", "train"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_job_that_contradicts_itself_ends_before_anything_is_read(command, case, job, lora_trainer, monkeypatch):
    monkeypatch.setattr("lora_trainer.resolve.describe_base", lambda *_: pytest.fail("the base was read"))
    job_file = job(**{"dataset": {"train": {"uri": "s3://data/train.jsonl"}}, **case.change})
    code, message = lora_trainer(command, job_file)
    assert (code, message.reason) == (ExitCode.INVALID_REQUEST, "InvalidRequest")
    assert message.message.startswith(case.field)
    assert case.fix in message.hint


def test_a_missing_bucket_is_input_not_found(job, lora_trainer):
    code, message = lora_trainer("preflight", job(output={"uri": "s3://no-such-bucket-at-all"}))
    assert (code, message.reason) == (ExitCode.INPUT_NOT_FOUND, "InputNotFound")
    assert "there is no bucket no-such-bucket-at-all" in message.message
    assert message.hint == "correct spec.output.uri, or make the bucket"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"dataset": {"train": {"uri": "s3://docs-revew/data/support.jsonl"}}}, "spec.dataset.train.uri"),
        ({"dataset": {"train": {"uri": "s3://docs-revew/data"}}}, "spec.dataset.train.uri"),
        ({"dataset": {"train": {"uri": "s3://docs-revew/data/*.jsonl"}}}, "spec.dataset.train.uri"),
        ({"baseModel": {"uri": "s3://docs-revew/base"}}, "spec.baseModel.uri"),
    ],
    ids=["a file", "a folder", "a pattern", "a base model"],
)
def test_a_missing_bucket_of_an_input_is_not_told_as_a_missing_object(job, lora_trainer, change, field):
    code, message = lora_trainer("preflight", job(**change))
    assert code == ExitCode.INPUT_NOT_FOUND
    assert message.message.startswith(f"{field}: s3://docs-revew/")
    assert message.message.endswith("there is no bucket docs-revew")
    assert message.hint == f"correct {field}, or make the bucket"


def test_a_missing_model_is_input_not_found(bucket, job, lora_trainer):
    code, message = lora_trainer("preflight", job(baseModel={"uri": f"s3://{bucket}/nothing"}))
    assert code == ExitCode.INPUT_NOT_FOUND
    assert f"spec.baseModel.uri: s3://{bucket}/nothing: there is nothing in this folder" in message.message


def test_a_missing_data_file_is_input_not_found(bucket, job, lora_trainer):
    code, message = lora_trainer("preflight", job(dataset={"train": {"uri": f"s3://{bucket}/none.jsonl"}}))
    assert code == ExitCode.INPUT_NOT_FOUND
    assert f"spec.dataset.train.uri: s3://{bucket}/none.jsonl" in message.message


@pytest.mark.parametrize(("path", "words"), [("rows/", "no file"), ("train.pickle", "pickle")])
def test_data_that_are_not_there_or_of_no_known_kind_are_refused(s3, bucket, job, lora_trainer, path, words):
    s3.put_object(Bucket=bucket, Key="train.pickle", Body=b"?")
    code, message = lora_trainer("preflight", job(dataset={"train": {"uri": f"s3://{bucket}/{path}"}}))
    assert code in (ExitCode.INVALID_REQUEST, ExitCode.INPUT_NOT_FOUND)
    assert "spec.dataset.train.uri" in message.message
    assert words in message.message


def test_a_broken_row_is_bad_data_and_named(s3, bucket, job, lora_trainer):
    rows = conversations(20)
    rows[16]["messages"][1] = {"role": "assistant"}
    put_rows(s3, bucket, rows)
    code, message = lora_trainer("preflight", job())
    assert (code, message.reason) == (ExitCode.BAD_DATA, "BadData")
    assert "train.jsonl row 17: messages[1].content is missing; write a string" in message.message


def test_rows_longer_than_the_maximum_length_are_not_cut_in_silence(job, lora_trainer):
    training = {"maxSteps": 1, "maxLength": 16}
    code, message = lora_trainer("preflight", job(training=training))
    assert code == ExitCode.BAD_DATA
    assert "25 of 25 rows are longer than 16 tokens" in message.message
    assert "spec.training.maxLength" in message.hint


def test_an_unknown_target_module_names_those_there_are(job, lora_trainer):
    code, message = lora_trainer("preflight", job(lora={"targetModules": ["query"]}))
    assert code == ExitCode.INVALID_REQUEST
    assert message.hint == "use some of down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"auto_map": {"AutoModel": "x.Y"}}, "needs code of its own"),
        ({"architectures": ["BertForMaskedLM"]}, "is a BertForMaskedLM"),
        ({"quantization_config": {"quant_method": "gptq"}}, "is quantized"),
    ],
)
def test_a_base_that_cannot_be_trained_is_refused(s3, bucket, job, lora_trainer, changes, words):
    config = json.loads(s3.get_object(Bucket=bucket, Key="base/config.json")["Body"].read())
    s3.put_object(Bucket=bucket, Key="base/config.json", Body=json.dumps(config | changes).encode())
    code, message = lora_trainer("preflight", job())
    assert code == ExitCode.INVALID_REQUEST
    assert words in message.message


def test_a_model_with_missing_weights_is_not_filled_with_random_ones(s3, bucket, job, lora_trainer):
    config = json.loads(s3.get_object(Bucket=bucket, Key="base/config.json")["Body"].read())
    s3.put_object(Bucket=bucket, Key="base/config.json", Body=json.dumps(config | {"num_hidden_layers": 3}).encode())
    code, message = lora_trainer("train", job())
    assert code == ExitCode.INVALID_REQUEST
    assert "weights are missing" in message.message


def test_a_refused_connection_is_service_unavailable_within_a_minute(job, lora_trainer):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    code, message = lora_trainer("preflight", job(storage={"endpoint": f"http://127.0.0.1:{port}", "pathStyle": True}))
    assert (code, message.reason) == (ExitCode.SERVICE_UNAVAILABLE, "ServiceUnavailable")
    assert "spec.storage.endpoint" in message.hint
    assert time.monotonic() - started < 60


def test_a_silent_server_is_service_unavailable(job, lora_trainer, monkeypatch):
    monkeypatch.setattr(s3_storage, "_READ_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        code, message = lora_trainer("preflight", job(storage={"endpoint": endpoint, "pathStyle": True}))
    assert code == ExitCode.SERVICE_UNAVAILABLE
    assert "S3 did not answer" in message.message


def test_a_lost_run_is_told_with_its_step_and_keeps_its_records(s3, bucket, job, lora_trainer, monkeypatch):
    accumulate = LoraTrainer._accumulate

    def broken(trainer, model, step):
        return accumulate(trainer, model, step) * (float("nan") if step == 2 else 1.0)

    monkeypatch.setattr(LoraTrainer, "_accumulate", broken)
    code, message = lora_trainer("train", job(training={"maxSteps": 6, "checkpoint": {"every": 2}}))
    assert (code, message.reason, message.step) == (ExitCode.DIVERGED, "Diverged", 2)
    assert message.message == "the loss of step 3 is nan"
    assert "spec.training.learningRate" in message.hint
    stored = keys(s3, bucket, "out/team-a/bot/")
    assert not any("/adapters/" in key for key in stored)
    assert "out/team-a/bot/runs/1/metrics.jsonl" in stored
    assert "out/team-a/bot/runs/1/checkpoints/step-00000002/manifest.json" in stored


def test_out_of_gpu_memory_has_its_code(job, lora_trainer, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(LoraTrainer, "_accumulate", full)
    assert lora_trainer("train", job())[0] == ExitCode.OUT_OF_GPU_MEMORY


def test_a_gpu_that_is_not_there_is_not_replaced_by_the_cpu(job, lora_trainer, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, message = lora_trainer("train", job(resources={"gpus": 1}))
    assert code == ExitCode.INVALID_REQUEST
    assert "no CUDA device is visible" in message.message


def test_a_signal_stops_the_run_at_the_end_of_the_step(s3, bucket, job, lora_trainer, monkeypatch):
    step = Recorder.step

    def stop_at_three(recorder, number, *rest):
        step(recorder, number, *rest)
        if number == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Recorder, "step", stop_at_three)
    code, message = lora_trainer("train", job())
    assert (code, message.reason) == (ExitCode.INTERRUPTED, "Interrupted")
    assert message.message == "stopped by SIGTERM after step 3 of 6"
    assert message.hint == "the checkpoint of step 3 is saved; the next attempt goes on from it"
    assert message.checkpoint.step == 3
    assert not any("/adapters/" in key for key in keys(s3, bucket))


def test_last_words_carry_the_losses_of_the_whole_run_also_of_the_attempt_before(
    s3, bucket, job, lora_trainer, monkeypatch
):
    step = Recorder.step

    def stop_at_three(recorder, number, *rest):
        step(recorder, number, *rest)
        if number == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "step", stop_at_three)
        _, interrupted = lora_trainer("train", job())
    assert [each.step for each in interrupted.loss_curve if each.loss is not None] == [1, 2, 3]

    code, message = lora_trainer("train", job())
    assert (code, message.step) == (ExitCode.DONE, 6)
    read = TerminationMessage.model_validate_json(message.encode())
    assert [each.step for each in read.loss_curve if each.loss is not None] == [1, 2, 3, 4, 5, 6]
    assert read.loss_curve[:3] == interrupted.loss_curve[:3]
    stored = s3.get_object(Bucket=bucket, Key="out/team-a/bot/runs/1/metrics.jsonl")["Body"].read().splitlines()
    for kind in ("loss", "evalLoss"):
        measured = [(line["step"], float(f"{line[kind]:.6g}")) for line in map(json.loads, stored) if kind in line]
        told = [(each["step"], each[kind]) for each in (point.wire() for point in read.loss_curve) if kind in each]
        assert told == measured


def test_a_process_that_gets_sigterm_exits_with_75(job, tmp_path, s3):
    path = job(training={"maxSteps": 100_000, "effectiveBatchSize": 4})
    command = [sys.executable, "-m", "lora_trainer.cli", "train", "--job", str(path)]
    environment = os.environ | {"LORA_SCRATCH": str(tmp_path / "scratch")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if json.loads(line)["message"] == "step":
            process.terminate()
            break
    _, errors = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED
    assert "lora-trainer: Interrupted: stopped by SIGTERM after step" in errors


def test_a_publication_that_was_killed_before_the_manifest_is_finished_by_the_next(
    s3, bucket, job, lora_trainer, monkeypatch
):
    create = Storage.create

    def killed(store, file, content):
        if "/adapters/" in file.uri:
            raise InterruptionError("stopped by SIGKILL")
        create(store, file, content)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "create", killed)
        assert lora_trainer("train", job())[0] == ExitCode.INTERRUPTED
    left = [key for key in keys(s3, bucket) if "/adapters/" in key]
    assert left
    assert not any(key.endswith("manifest.json") for key in left)
    code, message = lora_trainer("train", job())
    assert code == ExitCode.DONE
    assert f"{message.adapter.uri}/manifest.json".removeprefix(f"s3://{bucket}/") in keys(s3, bucket)


def test_no_log_or_message_quotes_the_data(s3, bucket, job, lora_trainer, capsys):
    rows = conversations(20)
    rows[3]["messages"][1]["content"] = ["zebra-stripes"]
    put_rows(s3, bucket, rows)
    _, message = lora_trainer("preflight", job())
    out = capsys.readouterr()
    assert "zebra-stripes" not in out.out + out.err + message.encode().decode()
