"""Errors of S3: each becomes an exit code, the URI, the field, and what to change."""

import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from botocore.stub import Stubber

from lora_api.exit_codes import ExitCode
from lora_api.sources import Storage as StorageSpec
from lora_trainer.errors import TrainerError
from lora_trainer.storage.location import Location
from lora_trainer.storage.s3 import S3, explain

WHERE = Location("s3://models/llama", "spec.baseModel.uri")
URL = "http://127.0.0.1:1"


def answer(code, status):
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")


CASES = [
    (answer("AccessDenied", 403), ExitCode.NO_PERMISSION),
    (answer("403", 403), ExitCode.NO_PERMISSION),
    (answer("InvalidAccessKeyId", 403), ExitCode.NO_PERMISSION),
    (answer("SignatureDoesNotMatch", 403), ExitCode.NO_PERMISSION),
    (answer("ExpiredToken", 400), ExitCode.NO_PERMISSION),
    (NoCredentialsError(), ExitCode.NO_PERMISSION),
    (PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), ExitCode.NO_PERMISSION),
    (answer("NoSuchBucket", 404), ExitCode.INPUT_NOT_FOUND),
    (answer("NoSuchKey", 404), ExitCode.INPUT_NOT_FOUND),
    (answer("404", 404), ExitCode.INPUT_NOT_FOUND),
    (answer("SlowDown", 503), ExitCode.SERVICE_UNAVAILABLE),
    (answer("InternalError", 500), ExitCode.SERVICE_UNAVAILABLE),
    (answer("TooManyRequests", 429), ExitCode.SERVICE_UNAVAILABLE),
    (EndpointConnectionError(endpoint_url=URL), ExitCode.SERVICE_UNAVAILABLE),
    (ConnectTimeoutError(endpoint_url=URL), ExitCode.SERVICE_UNAVAILABLE),
    (ReadTimeoutError(endpoint_url=URL), ExitCode.SERVICE_UNAVAILABLE),
    (SSLError(endpoint_url=URL, error="certificate verify failed"), ExitCode.SERVICE_UNAVAILABLE),
    (S3UploadFailedError("gave up"), ExitCode.SERVICE_UNAVAILABLE),
    (answer("PermanentRedirect", 301), ExitCode.INVALID_REQUEST),
    (ParamValidationError(report="Invalid bucket name"), ExitCode.INVALID_REQUEST),
]


@pytest.mark.parametrize(("error", "code"), CASES, ids=lambda value: str(value)[:60])
def test_an_error_of_s3_becomes_an_exit_code_with_uri_field_and_fix(error, code):
    explained = explain(error, WHERE)
    assert explained.exit_code == code
    assert explained.message.startswith("spec.baseModel.uri: s3://models/llama: ")
    assert explained.hint


def test_a_refused_access_names_where_the_credentials_come_from():
    assert "spec.storage.credentialsSecretRef" in explain(answer("AccessDenied", 403), WHERE).hint


HEADS = [
    ("the object is missing", None, "there is no such object"),
    ("the bucket is missing", ("404", 404), "there is no bucket models"),
    ("nobody may ask for the bucket", ("403", 403), "there is no such object"),
    ("the server is busy", ("503", 503), "there is no such object"),
]


@pytest.mark.parametrize(("head", "words"), [each[1:] for each in HEADS], ids=[each[0] for each in HEADS])
def test_a_404_without_a_body_is_told_by_what_the_bucket_itself_answers(monkeypatch, tmp_path, head, words):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    storage = S3(StorageSpec(endpoint=URL, path_style=True))
    with Stubber(storage._client) as server:
        server.add_client_error("head_object", "404", http_status_code=404)  # what a download asks first
        if head is None:
            server.add_response("head_bucket", {})
        else:
            server.add_client_error("head_bucket", head[0], http_status_code=head[1])
        with pytest.raises(TrainerError) as refused:
            storage.download(WHERE, tmp_path / "file")
        server.assert_no_pending_responses()
    assert refused.value.exit_code == ExitCode.INPUT_NOT_FOUND
    assert refused.value.message == f"{WHERE}: {words}"


def test_a_404_that_says_which_is_missing_asks_nothing_more(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    storage = S3(StorageSpec(endpoint=URL, path_style=True))
    with Stubber(storage._client) as server:
        server.add_client_error("get_object", "NoSuchKey", http_status_code=404)
        with pytest.raises(TrainerError, match="there is no such object"):
            storage.read(WHERE)
