"""`verify` on folders of this machine: nothing that differs from the manifest goes unseen."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lora_api.artifacts import CheckpointManifest, FileEntry, digest_of
from lora_cli import main
from lora_cli.errors import CliError
from lora_cli.storage.files import open_folder
from lora_cli.storage.verification import check, read_manifest
from unit.cli.artifacts import manifest_of, write_artifact


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_artifact(tmp_path)


def faults(folder: Path, expected: str | None = None) -> dict[str, str]:
    opened = open_folder(str(folder))
    checked = list(check(opened, read_manifest(opened), expected))
    return {each.path: each.fault for each in checked if each.fault}


def changed(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"W" * 3_000_000)


def longer(folder: Path) -> None:
    with (folder / "adapter_config.json").open("ab") as file:
        file.write(b"\n")


def gone(folder: Path) -> None:
    (folder / "README.md").unlink()


def added(folder: Path) -> None:
    (folder / "extra.bin").write_bytes(b"1")


def relisted(folder: Path) -> None:
    """Somebody changes a file and its line in the list, but cannot change the name of the whole."""
    (folder / "adapter_config.json").write_bytes(b"{}")
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = next(each for each in manifest["files"] if each["path"] == "adapter_config.json")
    entry |= {"size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_an_adapter_that_is_whole(adapter: Path) -> None:
    assert faults(adapter) == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed, "adapter_model.safetensors: has SHA-256"),
        (longer, "adapter_config.json: has 19 bytes, the manifest says 18"),
        (gone, "README.md: is missing"),
        (added, "extra.bin: is not in the manifest"),
        (relisted, "digest sha256:"),
    ],
)
def test_what_differs_is_named(adapter: Path, change: Callable[[Path], None], words: str) -> None:
    change(adapter)
    found = faults(adapter)
    assert len(found) == 1
    ((path, fault),) = found.items()
    assert f"{path}: {fault}".startswith(words)


def test_a_whole_that_was_replaced_is_not_what_was_expected(adapter: Path, tmp_path: Path) -> None:
    ((_, fault),) = faults(adapter, "sha256:" + "0" * 64).items()
    assert fault.endswith("was expected")
    moved = adapter.rename(tmp_path / ("sha256-" + "1" * 64))
    ((_, fault),) = faults(moved).items()
    assert fault.startswith("its folder is named sha256:1111")


def test_a_folder_without_a_manifest_is_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"holds no manifest.json; .* do not use it"):
        read_manifest(open_folder(str(tmp_path)))


def test_a_path_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    content = manifest_of([]).wire() | {"files": [{"path": "../../etc/passwd", "size": 1, "sha256": "0" * 64}]}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(CliError, match=r"files.0.path"):
        read_manifest(open_folder(str(tmp_path)))


def test_the_command_says_each_file_and_exits_with_1(adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["verify", str(adapter)]) == 0
    assert "ok     adapter_model.safetensors  3 MB\n" in capsys.readouterr().out
    changed(adapter)
    assert main.run(["verify", f"file://{adapter}", "--output", "json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["fault"]) == (False, "")
    assert [each["path"] for each in said["files"] if each["fault"]] == ["adapter_model.safetensors"]


def test_a_uri_of_another_kind_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["verify", "hf://owner/name"]) == 2
    assert "name s3://bucket/path, file:///path or a path" in capsys.readouterr().err


def test_the_digest_is_that_of_the_contract() -> None:
    entry = FileEntry(path="a", size=1, sha256="0" * 64)
    assert manifest_of([entry]).digest == digest_of([entry])


def test_a_checkpoint_is_no_adapter(tmp_path: Path) -> None:
    digests = {"spec_digest": "a", "dataset_digest": "b", "base_revision": "c"}
    checkpoint = CheckpointManifest(files=[], step=1, created_time=datetime(2026, 1, 2, tzinfo=UTC), **digests)
    (tmp_path / "manifest.json").write_bytes(checkpoint.encode())
    with pytest.raises(CliError, match=r"holds a checkpoint; name the folder of an adapter"):
        read_manifest(open_folder(str(tmp_path)))
