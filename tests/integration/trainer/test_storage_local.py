"""Folders that are mounted: what is written is whole, and what is read stays in its volume."""

import hashlib
import os

import pytest

from lora_api.artifacts import FileEntry
from lora_api.exit_codes import ExitCode
from lora_api.sources import Storage as StorageSpec
from lora_trainer.errors import TrainerError
from lora_trainer.storage.access import Storage
from lora_trainer.storage.location import AlreadyExistsError, Location


@pytest.fixture
def storage(tmp_path):
    return Storage(StorageSpec(), claims=tmp_path / "claims")


@pytest.fixture
def output(tmp_path):
    return Location(f"file://{tmp_path}/out", "spec.output.uri")


@pytest.fixture
def claim(tmp_path):
    """A claim with a model that lies there as a cache of the hub keeps it: links into a folder of contents."""
    volume = tmp_path / "claims" / "models"
    (volume / "snapshot").mkdir(parents=True)
    (volume / "blob").write_bytes(b"weights")
    (volume / "snapshot" / "model.safetensors").symlink_to("../blob")
    return Location("pvc://models/snapshot", "spec.baseModel.uri")


def paths(storage, folder):
    return [file.path for file in storage.list_files(folder)]


def test_what_is_written_is_listed_read_and_removed(storage, output):
    assert storage.list_files(output) == []
    assert storage.read_if_there(output / "runs/1/report.json") is None
    storage.write(output / "runs/1/report.json", b"{}")
    storage.write(output / "runs/1/report.json", b"0123456789")
    assert storage.read(output / "runs/1/report.json") == b"0123456789"
    assert storage.read(output / "runs/1/report.json", 2, 3) == b"234"
    assert storage.read(output / "runs/1/report.json", 8, 100) == b"89"
    storage.write(output / "runs/2/log.jsonl", b"")
    assert paths(storage, output) == ["runs/1/report.json", "runs/2/log.jsonl"]
    storage.delete_all(output / "runs/1")
    storage.delete_all(output / "runs/1")
    storage.delete(output / "runs/2/log.jsonl")
    storage.delete(output / "runs/2/log.jsonl")
    assert paths(storage, output) == []


def test_a_file_is_created_once(storage, output):
    storage.create(output / "manifest.json", b"first")
    with pytest.raises(AlreadyExistsError):
        storage.create(output / "manifest.json", b"second")
    assert storage.read(output / "manifest.json") == b"first"
    assert paths(storage, output) == ["manifest.json"], "no unfinished file is left"


def test_an_upload_is_checked_and_leaves_nothing_when_it_is_not_what_it_should_be(storage, output, tmp_path):
    (tmp_path / "adapter").write_bytes(b"weights")
    storage.upload(tmp_path / "adapter", output / "a", hashlib.sha256(b"weights").hexdigest())
    assert storage.read(output / "a") == b"weights"
    with pytest.raises(TrainerError, match="changed while it was copied"):
        storage.upload(tmp_path / "adapter", output / "b", hashlib.sha256(b"others").hexdigest())
    assert paths(storage, output) == ["a"]


def test_several_files_go_there_and_come_back_verified(storage, output, tmp_path):
    contents = {f"part-{number}": os.urandom(1000) for number in range(9)}
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for name, content in contents.items():
        (source / name).write_bytes(content)
    entries = [
        FileEntry(path=name, size=1000, sha256=hashlib.sha256(content).hexdigest())
        for name, content in contents.items()
    ]
    storage.upload_all(source, entries, output)
    storage.download_verified(output, entries, target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == contents
    storage.write(output / "part-3", os.urandom(1000))
    with pytest.raises(TrainerError, match="part-3 has another SHA-256"):
        storage.download_verified(output, entries, target)


def test_a_claim_is_read_through_links_within_it(storage, claim, tmp_path):
    (file,) = storage.list_files(claim)
    assert (file.path, file.size) == ("model.safetensors", 7)
    storage.download_all(claim, [file], tmp_path / "base")
    assert (tmp_path / "base" / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("path", ["../../secret", "link"])
def test_nothing_outside_a_claim_is_read(storage, claim, tmp_path, path):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "claims" / "models" / "snapshot" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(TrainerError) as refused:
        storage.read(claim / path)
    assert refused.value.exit_code == ExitCode.INVALID_REQUEST
    assert "leads out of the claim models" in refused.value.message


def test_a_claim_is_never_written(storage, claim):
    with pytest.raises(TrainerError, match="cannot be used here"):
        storage.write(claim / "x", b"")


def test_a_claim_that_is_not_mounted_is_named_with_what_to_use_instead(storage):
    with pytest.raises(TrainerError) as missing:
        storage.list_files(Location("pvc://other/rows", "spec.dataset.train.uri"))
    assert missing.value.exit_code == ExitCode.INPUT_NOT_FOUND
    assert "the volume of the claim other is not mounted here" in missing.value.message
    assert "file:///" in missing.value.hint
