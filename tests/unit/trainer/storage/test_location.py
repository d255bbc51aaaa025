"""A place is a URI and the field it came from; both are told, but no secret in them."""

import pytest

from lora_api.exit_codes import ExitCode
from lora_trainer.errors import TrainerError
from lora_trainer.storage.hub import Repository
from lora_trainer.storage.location import Location
from lora_trainer.storage.web import Web

COMMIT = "c0ffee" + 34 * "0"


@pytest.mark.parametrize(
    ("uri", "scheme", "bucket", "key"),
    [
        ("s3://b", "s3", "b", ""),
        ("s3://b/", "s3", "b", ""),
        ("s3://b/a/c.txt", "s3", "b", "a/c.txt"),
        ("s3://b/a/", "s3", "b", "a"),
        ("pvc://claim/a/b", "pvc", "claim", "a/b"),
        ("file:///home/me/rows.jsonl", "file", "", "home/me/rows.jsonl"),
    ],
)
def test_a_location_has_a_scheme_a_first_part_and_the_rest(uri, scheme, bucket, key):
    location = Location(uri, "f")
    assert (location.scheme, location.bucket, location.key) == (scheme, bucket, key)
    assert (location / "x").uri == uri.rstrip("/") + "/x"


def test_what_is_shown_has_the_field_but_no_secret_of_a_web_address():
    location = Location("https://me:secret@host:8443/rows.jsonl?signature=secret", "spec.dataset.train.uri")
    assert str(location) == "spec.dataset.train.uri: https://host:8443/rows.jsonl"
    assert str(Location("s3://b/what?.jsonl", "f")) == "f: s3://b/what?.jsonl"


@pytest.mark.parametrize(
    ("uri", "field", "expected"),
    [
        ("hf://gpt2", "spec.baseModel.uri", ("models", "gpt2", "main", "")),
        ("hf://owner/name", "spec.baseModel.uri", ("models", "owner/name", "main", "")),
        (f"hf://gpt2@{COMMIT}/config.json", "spec.baseModel.uri", ("models", "gpt2", COMMIT, "config.json")),
        (f"hf://o/n@{COMMIT}", "spec.baseModel.uri", ("models", "o/n", COMMIT, "")),
        ("hf://o/n", "spec.dataset.train.uri", ("datasets", "o/n", "main", "")),
        ("hf://o/n/data/a.parquet", "spec.dataset.validation.uri", ("datasets", "o/n", "main", "data/a.parquet")),
        ("hf://o/n/data/", "spec.evaluation.retention.uri", ("datasets", "o/n", "main", "data")),
    ],
)
def test_the_field_decides_whether_a_hub_location_is_a_model_or_a_data_set(uri, field, expected):
    assert Repository.of(Location(uri, field)) == expected


@pytest.mark.parametrize(
    "uri", ["https://[2001:db8::1/a.jsonl?sig=secret", "https://user:secret@host/a.jsonl", "https:///a.jsonl"]
)
def test_an_address_that_is_none_of_a_public_file_is_refused_by_its_field_and_without_its_secret(uri):
    with pytest.raises(TrainerError) as refused:
        Web().read(Location(uri, "spec.dataset.train.uri"))
    assert refused.value.exit_code == ExitCode.INVALID_REQUEST
    assert refused.value.message.startswith("spec.dataset.train.uri: https://")
    assert "secret" not in refused.value.message


def test_an_endpoint_is_shown_without_its_user():
    assert str(Location("http://user:secret@s3.example:9000", "spec.storage")) == "spec.storage: http://s3.example:9000"
