"""A place is a URI and the field it came from; both are told, but no secret in them."""

import pytest

from lora_trainer.storage.hub import Repository
from lora_trainer.storage.location import Location

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
