"""Checkpoints in a real S3 server: whole or not there, verified before they are believed, and few."""

import json
import logging

import pytest
import torch
from botocore.exceptions import FlexibleChecksumError

from integration.trainer.conftest import keys
from lora_api.artifacts import MANIFEST_NAME, CheckpointManifest
from lora_api.exit_codes import ExitCode
from lora_trainer.checkpoint.state import TrainingState, capture_random, read_state
from lora_trainer.checkpoint.store import CheckpointStore, Identity
from lora_trainer.checkpoint.uploader import BackgroundUploader, announce
from lora_trainer.cli import read_job
from lora_trainer.context import Context
from lora_trainer.errors import TrainerError
from lora_trainer.records import upload_records
from lora_trainer.signals import InterruptionError
from lora_trainer.storage.access import Storage
from lora_trainer.workspace import Workspace

RUN = "out/team-a/bot/runs/1"
FOLDER = f"{RUN}/checkpoints"
MINE = Identity("a" * 64, "sha256:data", "base-1")


@pytest.fixture
def new_context(job, tmp_path):
    """A process of the run: nothing of an earlier one is on its disk."""
    made = []

    def make(**blocks) -> Context:
        made.append(blocks)
        parsed = read_job(job(**blocks))
        return Context(parsed, Storage(parsed.spec.storage), Workspace(tmp_path / f"scratch-{len(made)}", "run"))

    return make


@pytest.fixture
def new_store(new_context):
    return lambda identity=MINE, keep=2: CheckpointStore(new_context(), identity, keep)


def state(step: int) -> TrainingState:
    weights = {"layer.lora_A": torch.full((2, 3), float(step))}
    return TrainingState(step, weights, {"layer.lora_A/exp_avg": weights["layer.lora_A"] / 3}, {0: capture_random()})


def steps_with_manifest(s3, bucket) -> list[int]:
    found = keys(s3, bucket, f"{FOLDER}/")
    return [int(key.split("/")[-2].removeprefix("step-")) for key in found if key.endswith(MANIFEST_NAME)]


def folder_of(step: int) -> str:
    return f"{FOLDER}/step-{step:08d}"


def body(s3, bucket, key: str) -> bytes:
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def test_a_checkpoint_is_found_by_the_next_process_as_it_was_saved(s3, bucket, new_store):
    saved = new_store().save(state(7))
    assert saved.uri == f"s3://{bucket}/{folder_of(7)}"
    found = new_store().newest()
    assert (found.step, found.saved) == (7, saved)
    restored = read_state(found.folder)
    assert torch.equal(restored.adapter["layer.lora_A"], torch.full((2, 3), 7.0))
    assert torch.equal(restored.optimizer["layer.lora_A/exp_avg"], torch.full((2, 3), 7.0) / 3)


def test_the_manifest_lists_every_file_and_says_what_was_trained(s3, bucket, new_store):
    new_store().save(state(7))
    manifest = CheckpointManifest.model_validate_json(body(s3, bucket, f"{folder_of(7)}/{MANIFEST_NAME}"))
    listed = {f"{folder_of(7)}/{entry.path}" for entry in manifest.files}
    assert listed | {f"{folder_of(7)}/{MANIFEST_NAME}"} == set(keys(s3, bucket, f"{FOLDER}/"))
    assert Identity(manifest.spec_digest, manifest.dataset_digest, manifest.base_revision) == MINE
    assert manifest.versions["torch"]


def test_without_checkpoints_there_is_none(new_store):
    assert new_store().newest() is None


def cut(s3, bucket, folder):
    s3.put_object(Bucket=bucket, Key=f"{folder}/adapter.safetensors", Body=b"short")


def flip_a_bit(s3, bucket, folder):
    content = bytearray(body(s3, bucket, f"{folder}/optimizer.safetensors"))
    content[-1] ^= 1
    s3.put_object(Bucket=bucket, Key=f"{folder}/optimizer.safetensors", Body=bytes(content))


def lose_a_file(s3, bucket, folder):
    s3.delete_object(Bucket=bucket, Key=f"{folder}/state.json")


def break_the_manifest(s3, bucket, folder):
    s3.put_object(Bucket=bucket, Key=f"{folder}/{MANIFEST_NAME}", Body=b'{"kind": "Checkpoint"')


def change_the_step(s3, bucket, folder):
    manifest = json.loads(body(s3, bucket, f"{folder}/{MANIFEST_NAME}"))
    s3.put_object(Bucket=bucket, Key=f"{folder}/{MANIFEST_NAME}", Body=json.dumps(manifest | {"step": 9}).encode())


DAMAGES = {
    cut: "a file is missing or has another size",
    flip_a_bit: "has another SHA-256 than its manifest says",
    lose_a_file: "a file is missing or has another size",
    break_the_manifest: "its manifest does not parse",
    change_the_step: "it belongs to another training",
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.items(), ids=lambda each: getattr(each, "__name__", ""))
def test_a_damaged_checkpoint_is_skipped_with_a_warning_and_replaced_later(
    s3, bucket, new_store, caplog, damage, reason
):
    caplog.set_level(logging.WARNING)
    first = new_store()
    first.save(state(10))
    first.save(state(20))
    damage(s3, bucket, folder_of(20))
    store = new_store()
    assert store.newest().step == 10
    (warning,) = [record for record in caplog.records if record.message == "a checkpoint is skipped"]
    assert reason in warning.fields["reason"]
    assert warning.fields["uri"].endswith("step-00000020")
    store.save(state(20))
    assert new_store().newest().step == 20


def test_a_file_that_the_server_itself_finds_damaged_is_skipped(new_store, monkeypatch):
    """Its answer looks like a transfer that went wrong, which would be tried for ever."""
    store = new_store()
    store.save(state(10))

    def damaged(*_):
        raise TrainerError(ExitCode.SERVICE_UNAVAILABLE, "checksum") from FlexibleChecksumError(error_msg="differs")

    monkeypatch.setattr(Storage, "download_verified", damaged)
    assert new_store().newest() is None


@pytest.mark.parametrize(
    "other",
    [
        Identity("b" * 64, "sha256:data", "base-1"),
        Identity("a" * 64, "sha256:else", "base-1"),
        Identity("a" * 64, "sha256:data", "base-2"),
    ],
)
def test_a_checkpoint_of_another_training_is_never_resumed_and_gives_way(s3, bucket, new_store, other):
    new_store(other).save(state(30))
    store = new_store()
    assert store.newest() is None
    store.save(state(10))
    store.prune()
    assert steps_with_manifest(s3, bucket) == [10]


def test_a_save_that_died_before_the_manifest_is_never_seen_and_is_written_anew(s3, bucket, new_store, monkeypatch):
    def killed(*_):
        raise InterruptionError("stopped by SIGKILL")

    new_store().save(state(10))
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "create", killed)
        with pytest.raises(InterruptionError):
            new_store().save(state(20))
    assert keys(s3, bucket, folder_of(20)), "the files were there first"
    store = new_store()
    assert store.newest().step == 10
    store.save(state(20))
    assert new_store().newest().step == 20


def test_a_checkpoint_that_is_there_already_is_left_alone(s3, bucket, new_store):
    first = new_store().save(state(10))
    before = s3.head_object(Bucket=bucket, Key=f"{folder_of(10)}/{MANIFEST_NAME}")["LastModified"]
    assert new_store().save(state(10)) == first
    assert s3.head_object(Bucket=bucket, Key=f"{folder_of(10)}/{MANIFEST_NAME}")["LastModified"] == before


def test_pruning_keeps_the_newest_and_clears_what_is_half_written(s3, bucket, new_store):
    store = new_store(keep=2)
    for step in (10, 20, 30):
        store.save(state(step))
    s3.put_object(Bucket=bucket, Key=f"{folder_of(15)}/adapter.safetensors", Body=b"half")
    s3.put_object(Bucket=bucket, Key=f"{folder_of(40)}/adapter.safetensors", Body=b"half")
    store.prune()
    assert steps_with_manifest(s3, bucket) == [20, 30]
    assert {key.split("/")[-2] for key in keys(s3, bucket, f"{FOLDER}/")} == {"step-00000020", "step-00000030"}


def test_a_removal_that_dies_half_way_leaves_no_checkpoint_to_believe(s3, bucket, new_store, monkeypatch):
    store = new_store(keep=1)
    store.save(state(10))
    store.save(state(20))

    def killed(*_):
        raise InterruptionError("stopped by SIGKILL")

    monkeypatch.setattr(Storage, "delete_all", killed)
    with pytest.raises(InterruptionError):
        store.prune()
    assert f"{folder_of(10)}/adapter.safetensors" in keys(s3, bucket)
    assert steps_with_manifest(s3, bucket) == [20]


def test_a_refused_access_is_an_error_and_not_a_run_without_checkpoints(new_store, monkeypatch):
    new_store().save(state(10))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(TrainerError) as caught:
        new_store().newest()
    assert caught.value.exit_code == ExitCode.NO_PERMISSION


def test_an_upload_in_the_background_ends_in_the_store_the_progress_and_the_last_words(s3, bucket, new_context):
    context = new_context()
    uploader = BackgroundUploader(CheckpointStore(context, MINE, keep=1), announce(context))
    context.workspace.metrics.write_text('{"step": 1}\n')
    for step in (10, 20):
        uploader.save(state(step))
        assert uploader.drain(60)
    assert steps_with_manifest(s3, bucket) == [20]
    assert context.progress.current.checkpoint == uploader.last
    assert context.stop.checkpoint_step == 20
    assert body(s3, bucket, f"{RUN}/metrics.jsonl") == b'{"step": 1}\n', "it survives a SIGKILL from now on"


def test_no_rights_to_write_are_told_and_the_training_goes_on(new_context, monkeypatch, caplog):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    context = new_context()
    uploader = BackgroundUploader(CheckpointStore(context, MINE, keep=1), announce(context))
    uploader.save(state(10))
    assert not uploader.drain(60)
    assert uploader.failure.exit_code == ExitCode.NO_PERMISSION
    assert "a checkpoint was not saved" in caplog.text


def test_the_log_of_a_run_has_each_line_of_each_attempt_once(s3, bucket, new_context):
    first = new_context()
    first.workspace.log.write_text("one\n")
    upload_records(first)
    first.workspace.log.write_text("one\ntwo\n")
    upload_records(first)  # as after the next checkpoint; then it is killed
    second = new_context()
    second.workspace.log.write_text("three\n")
    upload_records(second)
    assert body(s3, bucket, f"{RUN}/log.jsonl") == b"one\ntwo\nthree\n"


def test_an_attempt_that_measured_nothing_leaves_the_measurements_before_it(s3, bucket, new_context):
    first = new_context()
    first.workspace.metrics.write_text('{"step": 1}\n')
    upload_records(first)
    second = new_context()
    second.workspace.metrics.write_text("")
    upload_records(second)
    assert body(s3, bucket, f"{RUN}/metrics.jsonl") == b'{"step": 1}\n'
