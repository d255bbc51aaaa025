"""The workspace: everything below one folder, nothing of an earlier process of the run, and nothing on the network."""

import os
import tempfile

import pytest

from lora_trainer.workspace import open_workspace, prepare_environment, usable_cpus


@pytest.fixture
def clean(monkeypatch, tmp_path):
    before, temporary = dict(os.environ), tempfile.tempdir
    monkeypatch.setenv("LORA_SCRATCH", str(tmp_path))
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)
    tempfile.tempdir = temporary


def test_records_of_an_earlier_process_are_gone_and_base_models_stay(clean):
    workspace = open_workspace("team-a-bot-1")
    workspace.metrics.write_text("{}")
    (workspace.folder("bases") / "kept").touch()
    workspace = open_workspace("team-a-bot-1")
    assert not workspace.metrics.exists()
    assert (workspace.folder("bases") / "kept").exists()


def test_caches_and_temporary_files_stay_in_the_workspace_and_the_hub_is_off(clean, monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    prepare_environment(open_workspace("team-a-bot-1"))
    for name in ("TMPDIR", "HF_HOME", "HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
        assert os.environ[name].startswith(str(clean))
    assert tempfile.gettempdir().startswith(str(clean))
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_there_is_at_least_one_cpu():
    assert 1 <= usable_cpus() <= os.cpu_count()
