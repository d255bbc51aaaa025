"""Files of a folder, by URI: s3://bucket/path with the caller's own AWS credentials, file:///path, or a plain path.

Content comes in pieces, so that a file of any size takes the same memory. The Secret that a job names is never read.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from lora_api.sources import Storage
from lora_cli.errors import CliError, failed, wrong_usage

_PIECE = 2**20
_ATTEMPTS = 5
_SECONDS = 20


class NotThereError(CliError):
    """There is no such file."""

    def __init__(self, uri: str) -> None:
        super().__init__(1, f"{uri} is not there", "check the URI, and that the run got that far")


class Folder(Protocol):
    """A folder of artifacts."""

    uri: str

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file. Raises `NotThereError`, or `CliError`."""

    def files(self) -> dict[str, int]:
        """Return the size of each file by its path."""


def open_folder(uri: str, storage: Storage | None = None, endpoint: str | None = None) -> Folder:
    """Return the folder at a URI; `endpoint` replaces that of the storage. Raises `CliError` for other URIs."""
    if uri.startswith("s3://"):
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        return S3Folder(_s3(storage or Storage(), endpoint), bucket, prefix.strip("/"))
    if "://" in uri and not uri.startswith("file:///"):
        raise wrong_usage(f"{uri} cannot be read from here", "name s3://bucket/path, file:///path or a path")
    return LocalFolder(Path(uri.removeprefix("file://")).expanduser())


def read(folder: Folder, path: str) -> bytes:
    """Return the content of a small file."""
    return b"".join(folder.pieces(path))


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.uri = str(root)

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file."""
        try:
            with (self._root / path).open("rb") as file:
                while piece := file.read(_PIECE):
                    yield piece
        except (FileNotFoundError, NotADirectoryError):
            raise NotThereError(f"{self.uri}/{path}") from None
        except OSError as error:
            raise failed(f"{self.uri}/{path}: {error.strerror}") from None

    def files(self) -> dict[str, int]:
        """Return the size of each file."""
        return {
            each.relative_to(self._root).as_posix(): each.stat().st_size
            for each in sorted(self._root.rglob("*"))
            if each.is_file()
        }


class S3Folder:
    """A folder in a bucket."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client, self._bucket, self._prefix = client, bucket, prefix
        self.uri = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield the content of an object."""
        key = f"{self._prefix}/{path}" if self._prefix else path
        try:
            body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
            yield from body.iter_chunks(_PIECE)
        except Exception as error:
            raise _explained(error, f"{self.uri}/{path}") from None

    def files(self) -> dict[str, int]:
        """Return the size of each object below the folder."""
        start = f"{self._prefix}/" if self._prefix else ""
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=start)
            return {
                each["Key"].removeprefix(start): each["Size"] for page in pages for each in page.get("Contents", [])
            }
        except Exception as error:
            raise _explained(error, self.uri) from None


def _s3(storage: Storage, endpoint: str | None) -> Any:
    try:
        import boto3  # type: ignore[import-untyped]  # noqa: PLC0415 - most commands need none
        from botocore.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError:
        raise failed("reading S3 needs the package boto3", "pip install boto3") from None
    style = "path" if storage.path_style or endpoint else "auto"
    settings = Config(
        s3={"addressing_style": style},
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        connect_timeout=_SECONDS,
        read_timeout=_SECONDS,
    )
    region = storage.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    session = boto3.session.Session()  # one of its own: the shared one keeps the keys that it has seen first
    return session.client("s3", endpoint_url=endpoint or storage.endpoint, region_name=region, config=settings)


def _explained(error: Exception, uri: str) -> CliError:
    """Return the error in words. Those of the SDK are shown as they are: they name no key."""
    code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
    if code in ("NoSuchKey", "404", "NotFound"):
        return NotThereError(uri)
    if code == "NoSuchBucket":
        return failed(f"{uri}: there is no such bucket", "check the URI and --endpoint")
    if code in ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"):
        return failed(f"{uri}: your AWS credentials may not read it ({code})", "check AWS_PROFILE, AWS_ACCESS_KEY_ID")
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"):
        return failed(f"{uri}: you have no AWS credentials here", "set AWS_PROFILE or AWS_ACCESS_KEY_ID")
    return failed(f"{uri}: {error}", "if the server can be reached from pods only, forward its port: --endpoint URL")
