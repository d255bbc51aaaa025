"""S3, where artifacts go and most inputs come from.

All errors of the client are explained in one place, `explain`. Timeouts and retries are bounded: a dead endpoint fails
within a minute. Credentials are found by boto3's ordinary chain and never looked at.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError

from lora_api.exit_codes import ExitCode
from lora_api.sources import Storage as StorageSpec
from lora_trainer.errors import TrainerError, invalid_request, not_found
from lora_trainer.logs import warn
from lora_trainer.storage.location import AlreadyExistsError, Location, RemoteFile, Removal

# Three attempts of at most 5 s to connect and 20 s of silence, with about 3 s between them: 53 s for a dead endpoint
# that refuses nothing and answers nothing.
_CONNECT_TIMEOUT_SECONDS = 5
_READ_TIMEOUT_SECONDS = 20
_ATTEMPTS = 3
_KEYS_A_DELETION = 1000  # the limit of the API
_SINGLE_PUT_BYTES = 512 * 2**20  # above it several parts; S3 itself refuses one PUT above 5 GiB
_TRANSFER = TransferConfig(max_concurrency=4)

# Connect, read and TLS errors, transfers that gave up, and content that arrived damaged.
_TROUBLED = (BotoConnectionError, HTTPClientError, Boto3Error, IncompleteReadError, FlexibleChecksumError)
_DENIED = {
    "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
    "TokenRefreshRequired", "AllAccessDisabled", "AccountProblem", "Forbidden", "401", "403",
}  # fmt: skip
_BUSY = {"SlowDown", "Throttling", "RequestLimitExceeded", "InternalError", "ServiceUnavailable", "RequestTimeout"}
_BARE_NOT_FOUND = {"404", "NotFound"}
"""Codes of a 404 without a body, which does not tell whether the object or its bucket is missing."""
_EXISTS = {"PreconditionFailed", "ConditionalRequestConflict"}


class S3:
    """The S3 access of one job."""

    def __init__(self, spec: StorageSpec) -> None:
        config = Config(
            connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            read_timeout=_READ_TIMEOUT_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            s3={"addressing_style": "path" if spec.path_style else "auto"},
            signature_version="s3v4",
            max_pool_connections=16,
        )
        # A server of one's own has no regions, but the signature needs the word.
        region = spec.region or ("us-east-1" if spec.endpoint else None)
        try:
            self._client: Any = boto3.Session().client(
                "s3", endpoint_url=spec.endpoint, region_name=region, config=config
            )
        except (BotoCoreError, ClientError, Boto3Error) as error:
            raise explain(error, Location(spec.endpoint or "S3", "spec.storage")) from error

    def list_files(self, folder: Location) -> list[RemoteFile]:
        """Return every object below a folder, ordered by path; empty when there is none."""
        return [file for file in self._objects(folder) if file.path and not file.path.endswith("/")]

    def read(self, file: Location, start: int | None = None, length: int | None = None) -> bytes:
        """Return the content of an object, or `length` bytes of it from `start`."""
        span = {} if length is None else {"Range": f"bytes={start or 0}-{(start or 0) + length - 1}"}
        with self._explained(file):
            body: bytes = self._client.get_object(Bucket=file.bucket, Key=file.key, **span)["Body"].read()
        return body

    def download(self, file: Location, target: Path) -> None:
        """Write the content of an object to a local file."""
        with self._explained(file):
            self._client.download_file(file.bucket, file.key, str(target), Config=_TRANSFER)

    def write(self, file: Location, content: bytes) -> None:
        """Store an object, over what is there."""
        with self._explained(file):
            self._client.put_object(Bucket=file.bucket, Key=file.key, Body=content, ChecksumSHA256=_checksum(content))

    def create(self, file: Location, content: bytes) -> None:
        """Store an object only where there is none; `AlreadyExistsError` otherwise."""
        try:
            self._client.put_object(
                Bucket=file.bucket, Key=file.key, Body=content, ChecksumSHA256=_checksum(content), IfNoneMatch="*"
            )
        except ClientError as error:
            if _code(error) in _EXISTS or _status(error) in (409, 412):
                raise AlreadyExistsError(file.uri) from error
            raise self._explain(error, file) from error
        except (BotoCoreError, Boto3Error) as error:
            raise self._explain(error, file) from error

    def upload(self, source: Path, file: Location, sha256: str) -> None:
        """Store a local file whose SHA-256 is known (hexadecimal); the server checks what arrives."""
        with self._explained(file):
            if source.stat().st_size > _SINGLE_PUT_BYTES:
                extra = {"ChecksumAlgorithm": "SHA256"}
                self._client.upload_file(str(source), file.bucket, file.key, ExtraArgs=extra, Config=_TRANSFER)
                return
            checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
            with source.open("rb") as body:
                self._client.put_object(Bucket=file.bucket, Key=file.key, Body=body, ChecksumSHA256=checksum)

    def delete(self, file: Location) -> None:
        """Remove an object; no error when there is none."""
        with self._explained(file):
            self._client.delete_object(Bucket=file.bucket, Key=file.key)

    def delete_all(self, folder: Location) -> None:
        """Remove every object below a folder; no error when there is none."""
        self._delete_objects(folder, self.list_files(folder))

    def clear(self, folder: Location, first: str, alive: Callable[[], None]) -> Removal:
        """Remove every object below a folder, also those that stand for folders; the files named `first` before others.

        Of a versioned bucket the current versions go. Raises 69 when something new came meanwhile.
        """
        found = self._objects(folder)
        firsts = [each for each in found if each.path.rpartition("/")[2] == first]
        others = [each for each in found if each.path.rpartition("/")[2] != first]
        # Two calls, because a deletion of many keys has no order within it.
        marked = self._delete_objects(folder, firsts, alive)
        marked |= self._delete_objects(folder, others, alive)
        self._drop_unfinished(folder)
        if new := len(self._objects(folder)):
            message = f"{folder}: {new} files came while the others were removed"
            raise TrainerError(ExitCode.SERVICE_UNAVAILABLE, message, "it is tried again; end whatever writes there")
        return Removal(len(found), sum(each.size for each in found), marked)

    def _objects(self, folder: Location) -> list[RemoteFile]:
        """Return every object below a folder, ordered by path, also those that only stand for a folder."""
        prefix = _prefix(folder)
        with self._explained(folder):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=folder.bucket, Prefix=prefix)
            return sorted(
                RemoteFile(each["Key"].removeprefix(prefix), each["Size"], each.get("ETag", "").strip('"'))
                for page in pages
                for each in page.get("Contents", [])
            )

    def _delete_objects(
        self, folder: Location, files: list[RemoteFile], alive: Callable[[], None] = lambda: None
    ) -> bool:
        """Remove objects below a folder; return whether the bucket keeps their older versions."""
        prefix, marked = _prefix(folder), False
        for start in range(0, len(files), _KEYS_A_DELETION):
            alive()
            batch = [{"Key": prefix + each.path} for each in files[start : start + _KEYS_A_DELETION]]
            with self._explained(folder):
                answer = self._client.delete_objects(Bucket=folder.bucket, Delete={"Objects": batch})
                for refused in answer.get("Errors", []):
                    if refused.get("Code") != "NoSuchKey":
                        raise ClientError({"Error": refused}, "DeleteObjects")
            marked |= any(each.get("DeleteMarker") for each in answer.get("Deleted", []))
        return marked

    def _drop_unfinished(self, folder: Location) -> None:
        """Drop the parts of uploads that were cut off, which no listing shows and every bill does.

        An identity may lack the right to do so; then it is told, and nothing else is worse for it.
        """
        try:
            with self._explained(folder):
                pages = self._client.get_paginator("list_multipart_uploads").paginate(
                    Bucket=folder.bucket, Prefix=_prefix(folder)
                )
                for each in [each for page in pages for each in page.get("Uploads", [])]:
                    self._client.abort_multipart_upload(
                        Bucket=folder.bucket, Key=each["Key"], UploadId=each["UploadId"]
                    )
        except TrainerError as error:
            warn("parts of unfinished uploads may stay", uri=folder.uri, reason=error.message)

    @contextmanager
    def _explained(self, location: Location) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error) as error:
            raise self._explain(error, location) from error

    def _explain(self, error: Exception, location: Location) -> TrainerError:
        """Return what an error means. A 404 to HEAD has no body, so only the bucket itself tells which is missing."""
        if isinstance(error, ClientError) and _code(error) in _BARE_NOT_FOUND and self._has_no_bucket(location):
            return _no_bucket(location)
        return explain(error, location)

    def _has_no_bucket(self, location: Location) -> bool:
        """Return whether a bucket is surely not there; who may not ask for it is told nothing of it."""
        try:
            self._client.head_bucket(Bucket=location.bucket)
        except ClientError as error:
            return _status(error) == HTTPStatus.NOT_FOUND
        except (BotoCoreError, Boto3Error):
            return False
        return False


def explain(error: Exception, location: Location) -> TrainerError:
    """Return what an error of the S3 client means for the user: exit code, words and fix."""
    where = str(location)
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)):
        return _no_permission(f"{where}: no S3 credentials were found")
    if isinstance(error, ClientError):
        return _explain_answer(error, location, where)
    if isinstance(error, _TROUBLED):  # connect, read and TLS errors; transfers that gave up
        return TrainerError(
            ExitCode.SERVICE_UNAVAILABLE,
            f"{where}: S3 did not answer ({type(error).__name__})",
            "check spec.storage.endpoint, the network from the pod and the server",
        )
    return invalid_request(f"{where}: {error}", "check spec.storage")


def _explain_answer(error: ClientError, location: Location, where: str) -> TrainerError:
    code, status = _code(error), _status(error)
    if code == "NoSuchBucket":
        return _no_bucket(location)
    if code in _DENIED or status in (401, 403):
        return _no_permission(f"{where}: S3 refused the access ({code})")
    if code == "NoSuchKey" or code in _BARE_NOT_FOUND or status == HTTPStatus.NOT_FOUND:
        return not_found(f"{where}: there is no such object", f"correct {location.field}, or put the file there")
    if code in _BUSY or status >= 500 or status == 429:
        message = f"{where}: S3 is unavailable ({code})"
        return TrainerError(ExitCode.SERVICE_UNAVAILABLE, message, "it is tried again; check the S3 server if it stays")
    return invalid_request(f"{where}: S3 answered {status} {code}", "check spec.storage.region, endpoint and pathStyle")


def _no_bucket(location: Location) -> TrainerError:
    hint = f"correct {location.field}, or make the bucket"
    return not_found(f"{location}: there is no bucket {location.bucket}", hint)


def _no_permission(message: str) -> TrainerError:
    hint = (
        "give the key in the Secret of spec.storage.credentialsSecretRef (or the identity of "
        "spec.scheduling.serviceAccountName) the right to this URI"
    )
    return TrainerError(ExitCode.NO_PERMISSION, message, hint)


def _prefix(folder: Location) -> str:
    """Return what the keys below a folder begin with; the slash keeps out neighbours whose names begin alike."""
    return f"{folder.key}/" if folder.key else ""


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _checksum(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()
