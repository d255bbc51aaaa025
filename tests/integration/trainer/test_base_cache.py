"""A base model on a disk that jobs share: whole or not there, downloaded once, whoever is killed."""

import fcntl
import json
import threading

import pytest

from lora_api.exit_codes import ExitCode
from lora_api.sources import Storage as StorageSpec
from lora_api.training import Task
from lora_trainer.errors import TrainerError
from lora_trainer.model.base import describe_base
from lora_trainer.model.fetch import download_base
from lora_trainer.storage.access import Storage
from lora_trainer.storage.location import Location
from lora_trainer.workspace import Workspace


class CountingStorage(Storage):
    """Counts the downloads of whole folders."""

    downloads = 0

    def download_all(self, folder, files, target):
        self.downloads += 1
        super().download_all(folder, files, target)


@pytest.fixture
def storage(s3, s3_server):
    return CountingStorage(StorageSpec(endpoint=s3_server.endpoint, path_style=True))


@pytest.fixture
def remote(bucket):
    """The model in S3."""
    return Location(f"s3://{bucket}/base", "spec.baseModel.uri")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("LORA_BASE_CACHE", str(folder))
    return folder


def found(storage, location, task=Task.CAUSAL_LM):
    return describe_base(storage, location, "main", task)


def local(folder):
    return Location(f"file://{folder}", "spec.baseModel.uri")


def test_two_jobs_share_one_download(storage, remote, cache, tmp_path):
    base = found(storage, remote)
    first = download_base(storage, base, Workspace(tmp_path / "a", "a"))
    assert first.parent == cache / "bases"
    assert download_base(storage, base, Workspace(tmp_path / "b", "b")) == first
    assert storage.downloads == 1
    assert sorted(path.name for path in first.iterdir()) == sorted(file.path for file in base.files)


def test_without_a_cache_the_workspace_keeps_it(storage, remote, tmp_path, monkeypatch):
    monkeypatch.delenv("LORA_BASE_CACHE", raising=False)
    folder = download_base(storage, found(storage, remote), Workspace(tmp_path, "run"))
    assert folder.parent == tmp_path / "bases"


def test_a_job_waits_for_another_that_downloads_the_same(storage, remote, cache, tmp_path):
    base = found(storage, remote)
    bases, name = cache / "bases", base.revision.removeprefix("sha256:")[:40]
    bases.mkdir()
    with (bases / f".{name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=download_base, args=(storage, base, Workspace(tmp_path, "run")))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        assert storage.downloads == 0
        (bases / name).mkdir()
    waiting.join(30)
    assert storage.downloads == 0, "the other one has brought it"


def test_what_a_killed_process_left_is_removed_and_never_used(storage, remote, tiny_base, cache, tmp_path):
    base = found(storage, remote)
    left = cache / "bases" / f".{base.revision.removeprefix('sha256:')[:40]}.dead.part"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    folder = download_base(storage, base, Workspace(tmp_path, "run"))
    assert not left.exists()
    assert (folder / "model.safetensors").read_bytes() == (tiny_base / "model.safetensors").read_bytes()


def test_a_model_that_changes_while_it_is_read_is_refused_and_leaves_nothing(storage, remote, cache, tmp_path):
    base = found(storage, remote)
    config = storage.read(remote / "config.json")
    storage.write(remote / "config.json", config.replace(b"silu", b"gelu"))
    with pytest.raises(TrainerError, match="changed while it was read") as refused:
        download_base(storage, base, Workspace(tmp_path, "run"))
    assert refused.value.exit_code == ExitCode.INVALID_REQUEST
    assert not [path for path in (cache / "bases").iterdir() if path.is_dir()]


def test_a_model_that_is_mounted_is_not_copied(storage, tiny_base, cache, tmp_path):
    (tmp_path / "models").mkdir()
    for file in tiny_base.iterdir():
        (tmp_path / "models" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "models" / "modeling.py").write_text("code")
    folder = download_base(storage, found(storage, local(tmp_path / "models")), Workspace(tmp_path, "run"))
    assert (folder / "model.safetensors").resolve() == tmp_path / "models" / "model.safetensors"
    assert not (folder / "modeling.py").exists()
    assert storage.downloads == 0
    assert not list(cache.iterdir())


def test_a_cache_that_cannot_be_written_is_named(storage, remote, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LORA_BASE_CACHE", str(tmp_path / "file"))
    with pytest.raises(TrainerError, match=r"spec\.baseModel\.cacheClaimName"):
        download_base(storage, found(storage, remote), Workspace(tmp_path, "run"))


@pytest.mark.parametrize(
    ("task", "changes", "words"),
    [
        (Task.CAUSAL_LM, {"architectures": ["BertForMaskedLM"]}, "is a BertForMaskedLM; the task CausalLM needs"),
        (Task.SEQ2SEQ_LM, {}, "is a LlamaForCausalLM; the task Seq2SeqLM needs an encoder with a decoder"),
        (Task.SEQUENCE_CLASSIFICATION, {"auto_map": {"AutoModel": "x.Y"}}, "needs code of its own"),
        (Task.TOKEN_CLASSIFICATION, {"quantization_config": {"bits": 4}}, "is quantized already"),
    ],
)
def test_a_base_that_does_not_fit_the_task_is_refused(storage, tiny_base, tmp_path, task, changes, words):
    config = json.loads((tiny_base / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(TrainerError) as refused:
        found(storage, local(tmp_path), task)
    assert refused.value.exit_code == ExitCode.INVALID_REQUEST
    assert words in refused.value.message


@pytest.mark.parametrize("task", [Task.SEQUENCE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION])
def test_a_causal_model_may_be_trained_to_classify(storage, tiny_base, task):
    assert found(storage, local(tiny_base), task).layers
