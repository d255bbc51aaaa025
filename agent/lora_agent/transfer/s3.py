"""s3:// folders. The only module of the agent that imports boto3, and only the download program imports it.

With `credentialsSecretRef` the keys come from that Secret alone; without it boto3's ordinary chain finds those of the
pod. Keys are passed on and never looked at. All errors of the client are explained in one place, `explain`.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ResponseStreamingError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError

from lora_agent.transfer.folder import PIECE_BYTES, BrokenOffError
from lora_agent.transfer.protocol import FaultError, fault_error, plain_uri
from lora_agent.transfer.secrets import read_key, secret_folder
from lora_api.reasons import Reason
from lora_api.sources import Storage

# One attempt of the client: `Tries` counts them, also those that break off in the middle of a file. A dead endpoint
# fails after three silences of 5 s to connect or 20 s to read.
_CONNECT_TIMEOUT_SECONDS = 5
_READ_TIMEOUT_SECONDS = 20
_DENIED = {
    "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
    "TokenRefreshRequired", "AllAccessDisabled", "AccountProblem", "Forbidden", "401", "403",
}  # fmt: skip
_BUSY = {"SlowDown", "Throttling", "RequestLimitExceeded", "InternalError", "ServiceUnavailable", "RequestTimeout"}
_TROUBLED = (BotoConnectionError, HTTPClientError, IncompleteReadError, ResponseStreamingError)
_NO_KEYS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)


class S3Folder:
    """A folder of a bucket."""

    def __init__(self, uri: str, storage: Storage | None, secrets: Path) -> None:
        self._uri = plain_uri(uri)
        self._bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        self._prefix = prefix.strip("/")
        self._tags: dict[str, str] = {}
        spec = storage or Storage()
        keys = _keys_of(spec, secrets)
        with self._explained():
            self._client: Any = boto3.Session().client(
                "s3",
                endpoint_url=spec.endpoint,
                # A server of one's own has no regions, but the signature needs the word.
                region_name=spec.region or ("us-east-1" if spec.endpoint else None),
                config=_config(spec),
                **keys,
            )

    def size_of(self, name: str) -> int | None:
        """Return the size of an object."""
        with self._explained():
            try:
                answer = self._client.head_object(Bucket=self._bucket, Key=self._key(name))
            except ClientError as error:
                # Without a body an answer has no word for it: a bucket that is not there looks like a missing object.
                if _status(error) == 404 and _code(error) != "NoSuchBucket":
                    return None
                raise
        return int(answer["ContentLength"])

    def pieces(self, name: str, start: int) -> Iterator[bytes]:
        """Give the content of an object; one that was replaced meanwhile is never continued."""
        rest = {"Range": f"bytes={start}-", "IfMatch": self._tags[name]} if start else {}
        with self._explained():
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name), **rest)
            self._tags[name] = answer["ETag"]
            with closing(answer["Body"]) as body:
                while piece := body.read(PIECE_BYTES):
                    yield piece

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError, OSError) as error:
            raise explain(error, self._uri, self._bucket) from error


def explain(error: Exception, uri: str, bucket: str) -> FaultError | BrokenOffError:
    """Return what an error of the S3 client means: another attempt, or a fault with words and fix."""
    if isinstance(error, _NO_KEYS):
        return _no_permission(f"{uri}: no S3 credentials were found in the pod")
    if isinstance(error, NoRegionError):
        return fault_error(Reason.INVALID_SPEC, f"{uri}: no region is known; set spec.source.storage.region")
    if isinstance(error, ClientError):
        return _explain_answer(error, uri, bucket)
    if isinstance(error, (*_TROUBLED, OSError)):
        return BrokenOffError(f"S3 did not answer ({type(error).__name__})")
    message = f"{uri}: the S3 client refuses the settings ({type(error).__name__}); check spec.source.storage"
    return fault_error(Reason.INVALID_SPEC, message)


def _explain_answer(error: ClientError, uri: str, bucket: str) -> FaultError | BrokenOffError:
    code, status = _code(error), _status(error)
    if code in _BUSY or status >= 500 or status == 429:
        return BrokenOffError(f"S3 is unavailable ({status} {code})")
    if code == "NoSuchBucket":
        message = f"{uri}: the bucket {bucket} does not exist; correct spec.source.uri"
        return fault_error(Reason.INPUT_NOT_FOUND, message)
    if code in _DENIED or status in (401, 403):
        return _no_permission(f"{uri}: S3 refused the access ({code})")
    if code == "PreconditionFailed" or status == 412:
        return fault_error(Reason.SERVICE_UNAVAILABLE, f"{uri}: the files were replaced during the download")
    if status == 404:
        return fault_error(Reason.INPUT_NOT_FOUND, f"{uri}: a file is not there any more; correct spec.source.uri")
    message = f"{uri}: S3 answered {status} {code}; check region, endpoint and pathStyle of spec.source.storage"
    return fault_error(Reason.INVALID_SPEC, message)


def _keys_of(spec: Storage, secrets: Path) -> dict[str, str | None]:
    """Return the keys of the Secret, as the client takes them; nothing when the pod's own identity is to be used."""
    if spec.credentials_secret_ref is None:
        return {}
    folder = secret_folder(secrets, spec.credentials_secret_ref.name)
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    values = {name.lower(): read_key(folder, name) for name in names}
    for name in names[:2]:
        if values[name.lower()] is None:
            message = f"the Secret {folder.name} has no {name}; add the key to the Secret"
            raise fault_error(Reason.SECRET_NOT_FOUND, message)
    return values


def _config(spec: Storage) -> Config:
    return Config(
        connect_timeout=_CONNECT_TIMEOUT_SECONDS,
        read_timeout=_READ_TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 1},
        s3={"addressing_style": "path" if spec.path_style else "auto"},
        signature_version="s3v4",
        response_checksum_validation="when_required",  # every byte is checked against its SHA-256 anyway
    )


def _no_permission(message: str) -> FaultError:
    fix = "give the key of spec.source.storage.credentialsSecretRef, or the pod's ServiceAccount, the right to read it"
    return fault_error(Reason.NO_PERMISSION, f"{message}; {fix}")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
