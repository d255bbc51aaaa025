"""Removal of a folder: the manifests first, all of it, nothing beside it, and again after it was cut off."""

import pytest
from botocore.exceptions import ClientError

from lora_api.exit_codes import ExitCode
from lora_trainer.errors import TrainerError
from lora_trainer.storage.local import LocalFiles
from lora_trainer.storage.location import Location
from lora_trainer.storage.s3 import S3

FOLDER = Location("s3://models/out/team-a/bot", "spec.output.uri")
PATHS = ["adapters/sha256-1/a", "adapters/sha256-1/manifest.json", "runs/1/checkpoints/step-1/manifest.json", "z"]


def nothing():
    """Stand where the look at the stop signal is."""


class Bucket:
    """Answers as boto3's client does, from a list of keys; refuses or marks deletions as a test wants it."""

    def __init__(self, keys, errors=(), *, versioned=False):
        self.keys, self.errors, self.versioned = sorted(keys), list(errors), versioned
        self.deletions = []

    def get_paginator(self, name):
        self.listed = name
        return self

    def paginate(self, Bucket, Prefix):  # noqa: N803 - boto3's names
        if self.listed == "list_multipart_uploads":
            raise ClientError(
                {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "ListMultipartUploads"
            )
        found = [{"Key": key, "Size": 10} for key in self.keys if key.startswith(Prefix)]
        return [{"Contents": found[:3]}, {"Contents": found[3:]}, {}]

    def delete_objects(self, Bucket, Delete):  # noqa: N803 - boto3's names
        keys = [each["Key"] for each in Delete["Objects"]]
        self.deletions.append(keys)
        self.keys = [key for key in self.keys if key not in keys]
        deleted = [{"Key": key} | ({"DeleteMarker": True} if self.versioned else {}) for key in keys]
        return {"Errors": self.errors, "Deleted": deleted}


def s3_with(bucket):
    s3 = S3.__new__(S3)
    s3._client = bucket
    return s3


def keys_of(folder, paths):
    return [f"{folder}/{path}" for path in paths]


def test_manifests_are_removed_in_a_call_of_their_own_before_all_else():
    bucket = Bucket(keys_of("out/team-a/bot", [*PATHS, "manifest.json.bak"]))
    removal = s3_with(bucket).clear(FOLDER, "manifest.json", nothing)
    first, second = bucket.deletions
    assert first == keys_of("out/team-a/bot", PATHS[1:3])
    assert sorted(second) == sorted(keys_of("out/team-a/bot", [PATHS[0], "manifest.json.bak", "z"]))
    assert (removal.files, removal.bytes, removal.versions_stay) == (5, 50, False)


def test_what_begins_with_the_same_letters_stays():
    neighbours = ["out/team-a/bot-2/z", "out/team-a/bot", "out/team-a/.prepared/x", "out/team-ab/bot/z", "team-a/bot/z"]
    bucket = Bucket([*neighbours, "out/team-a/bot/", "out/team-a/bot/z"])
    assert s3_with(bucket).clear(FOLDER, "manifest.json", nothing).files == 2
    assert bucket.keys == sorted(neighbours)


def test_no_call_has_more_keys_than_the_api_takes():
    bucket = Bucket(keys_of("out/team-a/bot", [f"{number:05d}" for number in range(2500)]))
    s3_with(bucket).clear(FOLDER, "manifest.json", nothing)
    assert [len(each) for each in bucket.deletions] == [1000, 1000, 500]


def test_older_versions_that_stay_are_told():
    bucket = Bucket(keys_of("out/team-a/bot", PATHS), versioned=True)
    assert s3_with(bucket).clear(FOLDER, "manifest.json", nothing).versions_stay


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("AccessDenied", ExitCode.NO_PERMISSION),
        ("InternalError", ExitCode.SERVICE_UNAVAILABLE),
        ("SlowDown", ExitCode.SERVICE_UNAVAILABLE),
        ("InvalidArgument", ExitCode.INVALID_REQUEST),
    ],
)
def test_a_key_that_is_not_removed_ends_it_with_its_own_code(code, expected):
    bucket = Bucket(keys_of("out/team-a/bot", PATHS), errors=[{"Key": "x", "Code": code}])
    with pytest.raises(TrainerError) as caught:
        s3_with(bucket).clear(FOLDER, "manifest.json", nothing)
    assert caught.value.exit_code == expected
    assert len(bucket.deletions) == 1, "nothing else goes while a manifest stands"


def test_a_key_that_is_gone_already_is_no_error():
    bucket = Bucket(keys_of("out/team-a/bot", PATHS), errors=[{"Key": "x", "Code": "NoSuchKey"}])
    assert s3_with(bucket).clear(FOLDER, "manifest.json", nothing).files == 4


def test_what_comes_meanwhile_makes_it_try_again():
    bucket = Bucket(keys_of("out/team-a/bot", PATHS))

    def another_writes():
        if not bucket.deletions:
            bucket.keys.append("out/team-a/bot/runs/1/late")

    with pytest.raises(TrainerError, match="1 files came while") as caught:
        s3_with(bucket).clear(FOLDER, "manifest.json", another_writes)
    assert caught.value.exit_code == ExitCode.SERVICE_UNAVAILABLE


@pytest.fixture
def local(tmp_path):
    for path in ("bot", "bot-2"):
        for each in [*PATHS, ".log.jsonl.1234abcd.part", ".runs.99ff.part/step-1/a"]:
            (tmp_path / path / each).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path / each).write_bytes(b"0123456789")
    return Location(f"file://{tmp_path}/bot", "spec.output.uri")


def test_a_local_folder_goes_with_its_hidden_files_and_its_neighbour_stays(local, tmp_path):
    assert LocalFiles().clear(local, "manifest.json", nothing)[:2] == (6, 60)
    assert [path.name for path in tmp_path.iterdir()] == ["bot-2"]
    assert LocalFiles().clear(local, "manifest.json", nothing)[:2] == (0, 0)


def test_a_local_removal_that_is_cut_off_leaves_no_manifest_and_is_finished_by_the_next(local, tmp_path):
    calls = []

    def killed():
        calls.append(1)
        if len(calls) == 3:  # after the two manifests
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalFiles().clear(local, "manifest.json", killed)
    assert (tmp_path / "bot/z").exists()
    assert not list((tmp_path / "bot").rglob("manifest.json"))
    LocalFiles().clear(local, "manifest.json", nothing)
    assert not (tmp_path / "bot").exists()


def test_a_link_is_removed_and_not_what_it_leads_to(local, tmp_path):
    (tmp_path / "bot/linked").symlink_to(tmp_path / "bot-2")
    (tmp_path / "whole").symlink_to(tmp_path / "bot-2")
    LocalFiles().clear(local, "manifest.json", nothing)
    LocalFiles().clear(Location(f"file://{tmp_path}/whole", "spec.output.uri"), "manifest.json", nothing)
    assert [path.name for path in tmp_path.iterdir()] == ["bot-2"]
    assert (tmp_path / "bot-2/z").exists()
