"""The cache key decides whether minutes of building are spent again."""

from pathlib import Path

import pytest

from devcluster.settings import cache_key, paths

FILES = ("go.mod", "go.sum", "coredns/main.go", "pause/pause.c")


@pytest.fixture
def module_dir(tmp_path: Path) -> Path:
    for name in FILES:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"content of {name}")
    return tmp_path


def test_key_stays_when_other_files_change(module_dir: Path) -> None:
    before = cache_key(module_dir)
    (module_dir / "README.md").write_text("new words")
    assert cache_key(module_dir) == before


@pytest.mark.parametrize("name", FILES)
def test_key_changes_with_every_file_that_is_built(module_dir: Path, name: str) -> None:
    before = cache_key(module_dir)
    (module_dir / name).write_text("another version")
    assert cache_key(module_dir) != before


def test_folders_are_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORA_DEVCLUSTER_STATE", "/somewhere/state")
    monkeypatch.setenv("LORA_DEVCLUSTER_CACHE", "/somewhere/cache")
    found = paths()
    assert found.state == Path("/somewhere/state")
    assert found.binaries.parent == Path("/somewhere/cache")
