"""A real S3 server: folders, removal of many objects, and uploads that the server checks."""

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
def storage(s3, s3_server):
    return Storage(StorageSpec(endpoint=s3_server.endpoint, path_style=True))


@pytest.fixture
def output(bucket):
    return Location(f"s3://{bucket}/out", "spec.output.uri")


def test_a_folder_is_removed_with_all_below_it_and_nothing_else(storage, output):
    for path in ("step-1/a", "step-1/b/c", "step-2/a", "report.json"):
        storage.write(output / path, b"x")
    storage.delete_all(output / "step-1")
    storage.delete_all(output / "step-1")
    assert [file.path for file in storage.list_files(output)] == ["report.json", "step-2/a"]


def test_several_files_go_there_and_come_back_verified(storage, output, tmp_path):
    entries, source = [], tmp_path / "source"
    source.mkdir()
    for number in range(9):
        content = os.urandom(1000)
        (source / f"part-{number}").write_bytes(content)
        entries.append(FileEntry(path=f"part-{number}", size=1000, sha256=hashlib.sha256(content).hexdigest()))
    storage.upload_all(source, entries, output)
    storage.download_verified(output, entries, tmp_path / "target")
    assert all((tmp_path / "target" / each.path).read_bytes() == (source / each.path).read_bytes() for each in entries)
    storage.write(output / "part-3", os.urandom(1000))
    with pytest.raises(TrainerError, match="part-3 has another SHA-256") as damaged:
        storage.download_verified(output, entries, tmp_path / "target")
    assert damaged.value.exit_code == ExitCode.INTERNAL_ERROR


def test_an_upload_that_is_not_what_its_digest_says_is_refused_by_the_server(storage, output, tmp_path):
    (tmp_path / "adapter").write_bytes(b"weights")
    with pytest.raises(TrainerError):
        storage.upload(tmp_path / "adapter", output / "a", hashlib.sha256(b"others").hexdigest())
    assert storage.read_if_there(output / "a") is None


def test_an_object_is_created_once(storage, output):
    storage.create(output / "manifest.json", b"first")
    with pytest.raises(AlreadyExistsError):
        storage.create(output / "manifest.json", b"second")
    assert storage.read(output / "manifest.json") == b"first"
