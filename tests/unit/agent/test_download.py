"""The download: exactly the promised bytes, or a fault that says what is wrong and whether it may pass."""

import errno
import hashlib
import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

import pytest

from lora_agent.download import open_folder
from lora_agent.transfer import fill, hub
from lora_agent.transfer.fill import Filling
from lora_agent.transfer.folder import BrokenOffError
from lora_agent.transfer.hub import HubFolder
from lora_agent.transfer.protocol import DownloadRequest, FaultError, Line, StoreRecord, fault_error, plain_uri
from lora_agent.transfer.secrets import read_token
from lora_api.artifacts import FileEntry, Manifest, ManifestBaseModel, ManifestDataset, ManifestJob, digest_of
from lora_api.base import SecretKeyReference
from lora_api.reasons import Reason
from support.hub_server import HubRepository, hub_server

PLAIN = {"adapter_config.json": b'{"r": 8}', "adapter_model.safetensors": b"weights" * 1000}
WIDE = PLAIN | {"tokenizer/tokenizer.json": b"{}"}


def entry(path: str, content: bytes) -> FileEntry:
    return FileEntry(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def digest(files: dict[str, bytes]) -> str:
    return digest_of(entry(path, content) for path, content in files.items())


def manifest(files: dict[str, bytes], **more: Any) -> bytes:
    fields: dict[str, Any] = {
        "kind": "Adapter",
        "digest": digest(files),
        "files": [entry(path, content) for path, content in files.items()],
        "base_model": ManifestBaseModel(name="base", uri="hf://hub/base", revision="1"),
        "dataset": ManifestDataset(uri="s3://b/data", digest="d", rows=1),
        "job": ManifestJob(namespace="n", name="j", uid="u", run=1),
        "lora": {},
        "training": {},
        "metrics": {},
        "seed": 1,
        "step": 1,
        "versions": {},
        "created_time": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Manifest(**(fields | more)).encode()


class MemoryFolder:
    """A folder in memory, with the troubles of a network. `broken` is how often each file breaks off in the middle."""

    def __init__(self, files: dict[str, bytes], *, broken: int = 0, refused: frozenset[str] = frozenset()) -> None:
        self.files, self.broken, self.refused = files, broken, refused
        self.read: list[tuple[str, int]] = []

    def size_of(self, name: str) -> int | None:
        if name in self.refused:
            raise fault_error(Reason.NO_PERMISSION, "refused")
        return len(self.files[name]) if name in self.files else None

    def pieces(self, name: str, start: int) -> Iterator[bytes]:
        self.read.append((name, start))
        rest = self.files[name][start:]
        if self.broken:
            self.broken -= 1
            yield rest[: len(rest) // 2]
            raise BrokenOffError("the connection ended")
        yield rest


def download(source: Any, folder: Path, **more: Any) -> tuple[StoreRecord, list[Line]]:
    lines: list[Line] = []
    folder.mkdir(exist_ok=True)
    request = DownloadRequest(uri="s3://bucket/adapter", folder=str(folder), secrets="/none", **more)
    return Filling(request, source, lines.append, sleep=lambda _: None).run(), lines


def fault(source: Any, folder: Path, **more: Any) -> Any:
    with pytest.raises(FaultError) as caught:
        download(source, folder, **more)
    return caught.value.fault


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_with_a_manifest_exactly_its_files_come(tmp_path: Path) -> None:
    source = MemoryFolder(WIDE | {"manifest.json": manifest(WIDE), "README.md": b"words", "notes.bin": b"x"})
    record, lines = download(source, tmp_path / "new", digest=digest(WIDE))
    assert contents(tmp_path / "new") == WIDE | {"manifest.json": source.files["manifest.json"]}
    assert record.digest == digest(WIDE)
    assert lines[-1].total == record.bytes
    assert record.manifest == entry("manifest.json", source.files["manifest.json"])


def test_files_can_be_read_by_the_engines_user(tmp_path: Path) -> None:
    download(MemoryFolder(WIDE | {"manifest.json": manifest(WIDE)}), tmp_path / "new")
    for path in (tmp_path / "new").rglob("*"):
        assert oct(path.stat().st_mode & 0o777) == ("0o755" if path.is_dir() else "0o644")


def test_without_a_manifest_the_two_files_of_peft_come(tmp_path: Path) -> None:
    source = MemoryFolder(PLAIN | {"training_args.bin": b"pickle", "README.md": b"words"})
    record, _ = download(source, tmp_path / "new")
    assert contents(tmp_path / "new") == PLAIN
    assert (record.digest, record.manifest) == (digest(PLAIN), None)


def test_who_may_not_list_a_bucket_gets_a_plain_folder_all_the_same(tmp_path: Path) -> None:
    source = MemoryFolder(PLAIN, refused=frozenset({"manifest.json", "adapter_model.bin"}))
    assert download(source, tmp_path / "new")[0].digest == digest(PLAIN)


def test_who_may_read_nothing_is_told_so(tmp_path: Path) -> None:
    source = MemoryFolder(PLAIN, refused=frozenset({"manifest.json", "adapter_config.json"}))
    assert fault(source, tmp_path / "new").reason is Reason.NO_PERMISSION


CHANGED = PLAIN | {"adapter_model.safetensors": b"weighty" * 1000}
CUT = PLAIN | {"adapter_model.safetensors": b"weights"}
LONG = PLAIN | {"adapter_model.safetensors": b"weights" * 2000}
NO_WEIGHTS = {"adapter_config.json": b"{}", "other.safetensors": b"x"}
LIST, LYING = manifest(PLAIN), manifest(PLAIN, digest=digest(WIDE))
WEIGHTLESS, PICKLED = manifest(NO_WEIGHTS), manifest(PLAIN | {"a.pkl": b""})


@pytest.mark.parametrize(
    ("files", "wanted", "reason", "permanent", "words"),
    [
        (CHANGED | {"manifest.json": manifest(PLAIN)}, None, Reason.DIGEST_MISMATCH, False, "SHA-256 differs"),
        (CUT | {"manifest.json": LIST}, None, Reason.DIGEST_MISMATCH, False, "7 bytes came, manifest.json says 7000"),
        (LONG | {"manifest.json": manifest(PLAIN)}, None, Reason.DIGEST_MISMATCH, False, "adapter_model.safetensors"),
        (PLAIN | {"manifest.json": manifest(PLAIN)}, digest(WIDE), Reason.DIGEST_MISMATCH, False, digest(WIDE)),
        (PLAIN | {"manifest.json": LYING}, None, Reason.DIGEST_MISMATCH, False, "list of files"),
        (PLAIN, digest(WIDE), Reason.DIGEST_MISMATCH, False, digest(WIDE)),
        (PLAIN | {"manifest.json": b"{"}, None, Reason.NOT_AN_ADAPTER, True, "manifest.json"),
        (PLAIN | {"manifest.json": manifest(PLAIN, kind="GGUF")}, None, Reason.NOT_AN_ADAPTER, True, "GGUF"),
        (NO_WEIGHTS | {"manifest.json": WEIGHTLESS}, None, Reason.NOT_AN_ADAPTER, True, "lists no adapter_model"),
        (PLAIN | {"a.pkl": b"", "manifest.json": PICKLED}, None, Reason.NOT_AN_ADAPTER, True, "a.pkl"),
        (
            {"adapter_config.json": b"{}", "adapter_model.bin": b"pickle"},
            None,
            Reason.NOT_AN_ADAPTER,
            True,
            "convert to safetensors",
        ),
        ({"adapter_model.safetensors": b"x"}, None, Reason.NOT_AN_ADAPTER, True, "adapter_config.json is missing"),
        (PLAIN | {"adapter_config.json": b" " * 2**21}, None, Reason.NOT_AN_ADAPTER, True, "at most"),
        ({}, None, Reason.INPUT_NOT_FOUND, False, "correct spec.source.uri"),
    ],
)  # fmt: skip
def test_what_is_not_the_promised_adapter_is_refused(
    tmp_path: Path, files: dict[str, bytes], wanted: str | None, reason: Reason, permanent: bool, words: str
) -> None:
    found = fault(MemoryFolder(files), tmp_path / "new", digest=wanted)
    assert (found.reason, found.permanent) == (reason, permanent)
    assert words in found.message
    assert "\n" not in found.message


@pytest.mark.parametrize("path", ["../evil", "/etc/passwd", "a/../../b", "a//b", ".hidden", "a\\..\\b/", ""])
def test_a_manifest_cannot_lead_out_of_the_folder(tmp_path: Path, path: str) -> None:
    content = json.loads(manifest(PLAIN))
    content["files"].append({"path": path, "size": 1, "sha256": 64 * "0"})
    source = MemoryFolder(PLAIN | {"manifest.json": json.dumps(content).encode()})
    assert fault(source, tmp_path / "new").reason is Reason.NOT_AN_ADAPTER
    assert list(contents(tmp_path)) == ["new/manifest.json"]


def test_a_connection_that_breaks_goes_on_where_it_stopped(tmp_path: Path) -> None:
    source = MemoryFolder(PLAIN | {"manifest.json": manifest(PLAIN)}, broken=6)
    record, _ = download(source, tmp_path / "new", digest=digest(PLAIN))
    assert record.digest == digest(PLAIN)
    starts = [start for name, start in source.read if name == "manifest.json"]
    assert starts == sorted(starts)
    assert starts[-1] > 0


def test_a_server_that_stays_away_is_given_up_after_three_attempts(tmp_path: Path) -> None:
    class Dead(MemoryFolder):
        def pieces(self, name: str, start: int) -> Iterator[bytes]:
            self.read.append((name, start))
            raise BrokenOffError("S3 did not answer (ConnectTimeoutError)")
            yield b""

    source = Dead(PLAIN)
    found = fault(source, tmp_path / "new")
    assert (found.reason, found.permanent) == (Reason.SERVICE_UNAVAILABLE, False)
    assert len(source.read) == 3


def test_a_plain_file_that_changes_meanwhile_is_not_taken(tmp_path: Path) -> None:
    class Growing(MemoryFolder):
        def size_of(self, name: str) -> int | None:
            size = super().size_of(name)
            return size - 1 if size else size

    assert fault(Growing(PLAIN), tmp_path / "new").reason is Reason.SERVICE_UNAVAILABLE


def test_what_has_no_room_is_refused_before_it_comes(tmp_path: Path) -> None:
    source = MemoryFolder(PLAIN)
    found = fault(source, tmp_path / "new", room=1000)
    assert found.reason is Reason.DISK_FULL
    assert "lora-operator.io/store-size" in found.message
    assert source.read == []


def test_a_disk_that_fills_up_meanwhile_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fill.os, "fsync", full)
    assert fault(MemoryFolder(PLAIN), tmp_path / "new").reason is Reason.DISK_FULL


class TestSecrets:
    def test_a_token_is_read_without_its_line_break(self, tmp_path: Path) -> None:
        (tmp_path / "hub").mkdir()
        (tmp_path / "hub" / "token").write_text("hf_member\n")
        assert read_token(tmp_path, SecretKeyReference(name="hub")) == "hf_member"

    @pytest.mark.parametrize(
        ("name", "key", "words"),
        [
            ("missing", "token", "lora-operator.io/secrets and restart the pod"),
            ("empty", "token", "lora-operator.io/secrets"),
            ("hub", "other", "no key other"),
            ("hub", "../hub/token", "no key of a Secret"),
            ("hub", "..", "no key of a Secret"),
        ],
    )
    def test_what_is_missing_is_named_with_the_fix(self, tmp_path: Path, name: str, key: str, words: str) -> None:
        for each in ("hub", "empty"):
            (tmp_path / each).mkdir()
        (tmp_path / "hub" / "token").write_text("hf_secret")
        with pytest.raises(FaultError) as caught:
            read_token(tmp_path, SecretKeyReference(name=name, key=key))
        assert caught.value.fault.reason is Reason.SECRET_NOT_FOUND
        assert words in caught.value.fault.message
        assert "hf_secret" not in caught.value.fault.message


class TestHub:
    def repository(self, **more: Any) -> dict[str, HubRepository]:
        files = {f"adapters/bot/{path}": content for path, content in PLAIN.items()} | {"README.md": b"x"}
        return {"org/adapters": HubRepository(files, **more)}

    def test_a_folder_at_a_revision_comes_through_the_redirect_without_the_token(self, tmp_path: Path) -> None:
        with hub_server(models=self.repository(private=True)) as server:
            source = HubFolder("hf://org/adapters/adapters/bot", "refs/pr/1", "hf_member", server.url)
            record, _ = download(source, tmp_path / "new")
            assert record.digest == digest(PLAIN)
            asked = [(kind, path) for kind, path, headers in server.requests if "Authorization" in headers]
            assert {kind for kind, _ in asked} == {"hub"}
            assert any(kind == "files" for kind, _, _ in server.requests)

    @pytest.mark.parametrize("trouble", [500, 429, 0])
    def test_a_hub_in_trouble_is_asked_again(self, tmp_path: Path, trouble: int) -> None:
        with hub_server(models=self.repository()) as server:
            source = HubFolder("hf://org/adapters/adapters/bot", None, None, server.url)
            source.size_of("adapter_config.json")
            server.failures[:] = [trouble]
            assert download(source, tmp_path / "new")[0].digest == digest(PLAIN)

    @pytest.mark.parametrize(
        ("uri", "revision", "token", "reason"),
        [
            ("hf://org/missing", None, "hf_member", Reason.INPUT_NOT_FOUND),
            ("hf://org/adapters", "gone", "hf_member", Reason.INPUT_NOT_FOUND),
            ("hf://org/adapters/nowhere", None, "hf_member", Reason.INPUT_NOT_FOUND),
            ("hf://org/adapters/adapters/bot", None, "hf_wrong", Reason.NO_PERMISSION),
            ("hf://org/adapters/adapters/bot", None, "hf_stranger", Reason.NO_PERMISSION),
        ],
    )
    def test_what_cannot_be_read_is_said(
        self, tmp_path: Path, uri: str, revision: str | None, token: str | None, reason: Reason
    ) -> None:
        with hub_server(models=self.repository(gated=True)) as server:
            found = fault(HubFolder(uri, revision, token, server.url), tmp_path / "new")
        assert (found.reason, found.permanent) == (reason, False)
        assert not token or token not in found.message

    def test_a_redirect_never_leaves_https(self) -> None:
        request = urllib.request.Request("https://hub/file", headers={"Authorization": "Bearer hf_secret"})
        redirects = hub._Redirects()
        with pytest.raises(FaultError):
            redirects.redirect_request(request, None, 302, "Found", HTTPMessage(), "http://hub/file")
        followed = redirects.redirect_request(request, None, 302, "Found", HTTPMessage(), "https://files/file")
        assert followed is not None
        assert not followed.has_header("Authorization")

    def test_a_hub_that_is_away_is_no_verdict(self, tmp_path: Path) -> None:
        found = fault(HubFolder("hf://org/adapters", None, None, "http://127.0.0.1:1"), tmp_path / "new")
        assert found.reason is Reason.SERVICE_UNAVAILABLE


def test_an_unknown_scheme_is_refused_for_good() -> None:
    with pytest.raises(FaultError) as caught:
        open_folder(DownloadRequest(uri="ftp://host/x", folder="/tmp/x", secrets="/none"))
    assert caught.value.fault.permanent


@pytest.mark.parametrize(
    ("uri", "plain"),
    [
        ("s3://bucket/a/b?X-Amz-Signature=secret", "s3://bucket/a/b"),
        ("https://user:secret@host/path#x", "https://host/path"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
    ],
)
def test_what_is_logged_of_a_uri_has_no_secret(uri: str, plain: str) -> None:
    assert plain_uri(uri) == plain
