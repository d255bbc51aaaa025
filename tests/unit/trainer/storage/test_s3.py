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

from lora_api.exit_codes import ExitCode
from lora_trainer.storage.location import Location
from lora_trainer.storage.s3 import explain

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
