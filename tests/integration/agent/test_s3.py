"""The S3 access of the download program, against a real server: whole files, rests of files, and files that changed."""

from pathlib import Path
from typing import Any

import pytest

from lora_agent.transfer.fill import Filling
from lora_agent.transfer.folder import BrokenOffError
from lora_agent.transfer.protocol import DownloadRequest, FaultError
from lora_agent.transfer.s3 import S3Folder
from lora_api.base import SecretReference
from lora_api.reasons import Reason
from lora_api.sources import Storage
from support.s3server import S3Server
from unit.agent.test_download import WIDE, digest, manifest

CONTENT = bytes(range(256)) * 8192


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.new_bucket("agent")


@pytest.fixture
def secrets(s3: S3Server, tmp_path: Path) -> Path:
    (tmp_path / "secrets" / "keys").mkdir(parents=True)
    (tmp_path / "secrets" / "keys" / "AWS_ACCESS_KEY_ID").write_text(f"{s3.access_key}\n")
    (tmp_path / "secrets" / "keys" / "AWS_SECRET_ACCESS_KEY").write_text(f"{s3.secret_key}\n")
    return tmp_path / "secrets"


def open_folder(s3: S3Server, secrets: Path, uri: str, **more: Any) -> S3Folder:
    keys = SecretReference(name="keys")
    fields = {"endpoint": s3.endpoint, "path_style": True, "credentials_secret_ref": keys} | more
    return S3Folder(uri, Storage(**fields), secrets)


def test_a_file_goes_on_where_it_stopped(s3: S3Server, secrets: Path, bucket: str) -> None:
    s3.client().put_object(Bucket=bucket, Key="a/b/file", Body=CONTENT)
    folder = open_folder(s3, secrets, f"s3://{bucket}/a/b/")
    assert folder.size_of("file") == len(CONTENT)
    assert b"".join(folder.pieces("file", 0)) == CONTENT
    assert b"".join(folder.pieces("file", 1_000_001)) == CONTENT[1_000_001:]


def test_a_file_that_was_replaced_is_not_continued(s3: S3Server, secrets: Path, bucket: str) -> None:
    s3.client().put_object(Bucket=bucket, Key="file", Body=CONTENT)
    folder = open_folder(s3, secrets, f"s3://{bucket}/")
    assert b"".join(folder.pieces("file", 0)) == CONTENT
    s3.client().put_object(Bucket=bucket, Key="file", Body=CONTENT[::-1])
    with pytest.raises(FaultError) as caught:
        list(folder.pieces("file", 5))
    assert caught.value.fault.reason is Reason.SERVICE_UNAVAILABLE


def test_what_is_not_there_has_no_size(s3: S3Server, secrets: Path, bucket: str) -> None:
    assert open_folder(s3, secrets, f"s3://{bucket}/x").size_of("file") is None


def test_a_server_that_is_away_may_come_back(s3: S3Server, secrets: Path, bucket: str) -> None:
    folder = open_folder(s3, secrets, f"s3://{bucket}/x", endpoint="http://127.0.0.1:1")
    with pytest.raises(BrokenOffError):
        folder.size_of("file")


@pytest.mark.parametrize("key", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_a_key_that_is_missing_is_named(s3: S3Server, secrets: Path, bucket: str, key: str) -> None:
    (secrets / "keys" / key).unlink()
    with pytest.raises(FaultError) as caught:
        open_folder(s3, secrets, f"s3://{bucket}/x")
    assert caught.value.fault.reason is Reason.SECRET_NOT_FOUND
    assert key in caught.value.fault.message


def test_a_published_adapter_comes_with_its_manifest(s3: S3Server, secrets: Path, bucket: str, tmp_path: Path) -> None:
    for path, content in (WIDE | {"manifest.json": manifest(WIDE)}).items():
        s3.client().put_object(Bucket=bucket, Key=f"adapters/{path}", Body=content)
    uri = f"s3://{bucket}/adapters"
    (tmp_path / "new").mkdir()
    request = DownloadRequest(uri=uri, digest=digest(WIDE), folder=str(tmp_path / "new"), secrets=str(secrets))
    record = Filling(request, open_folder(s3, secrets, uri), lambda _: None).run()
    assert record.digest == digest(WIDE)
    assert (tmp_path / "new" / "tokenizer" / "tokenizer.json").read_bytes() == b"{}"
