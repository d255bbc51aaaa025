"""Clean-up on a real S3 server: all of the job's folder, nothing of its neighbours, and every way it can end."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session

from integration.trainer.conftest import keys
from lora_api.exit_codes import ExitCode

NEIGHBOURS = ["out/team-a/bot-2/z", "out/team-a/.prepared/rows", "out/team-ab/bot/z", "out/team-a/bo/z", "base/x"]
ARTIFACTS = ["adapters/sha256-1/a", "adapters/sha256-1/manifest.json", "runs/1/checkpoints/step-1/manifest.json"]


@pytest.fixture
def stored(s3, bucket):
    """Put some artifacts of the job, and of its neighbours; return their keys."""

    def put(*extra):
        mine = [f"out/team-a/bot/{path}" for path in (*ARTIFACTS, *extra)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=b"x" * 100), [*mine, *NEIGHBOURS]))
        return mine

    return put


def neighbours(s3, bucket):
    return {key for name in ("out/", "base/x") for key in keys(s3, bucket, name)}


def test_a_trained_job_is_removed_and_what_others_have_stays(s3, bucket, job, lora_trainer, stored):
    assert lora_trainer("train", job())[0] == ExitCode.DONE
    mine = keys(s3, bucket, "out/team-a/bot/")
    prepared = set(keys(s3, bucket, "out/team-a/.prepared/"))
    assert prepared
    size = sum(s3.head_object(Bucket=bucket, Key=key)["ContentLength"] for key in mine)
    code, message = lora_trainer("cleanup", job())
    assert (code, message.reason) == (ExitCode.DONE, "ArtifactsRemoved")
    assert message.message == (f"Removed {len(mine)} files, {size / 1e6:.1f} MB, under s3://{bucket}/out/team-a/bot")
    assert set(keys(s3, bucket)) == prepared, "also no log of the clean-up itself"
    assert lora_trainer("cleanup", job())[1].message.startswith("Removed 0 files, 0.0 MB, under ")


def test_more_objects_than_one_call_takes_are_removed(s3, bucket, job, lora_trainer, stored):
    stored(*(f"runs/1/part-{number:04d}" for number in range(2100)))
    code, message = lora_trainer("cleanup", job())
    assert (code, message.message.partition(",")[0]) == (ExitCode.DONE, "Removed 2103 files")
    assert neighbours(s3, bucket) == set(NEIGHBOURS)


def test_parts_of_an_upload_that_was_cut_off_are_dropped(s3, bucket, job, lora_trainer):
    for key in ("out/team-a/bot/merged/x", "out/team-a/bot-2/merged/x"):
        upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"x")
    assert lora_trainer("cleanup", job())[0] == ExitCode.DONE
    left = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert [each["Key"] for each in left] == ["out/team-a/bot-2/merged/x"]


def test_of_a_versioned_bucket_the_older_versions_stay_and_are_told(s3, bucket, job, lora_trainer, stored):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    mine = stored()
    code, message = lora_trainer("cleanup", job())
    assert code == ExitCode.DONE
    assert "the bucket is versioned and keeps the older versions" in message.message
    assert keys(s3, bucket, "out/team-a/bot/") == []
    versions = s3.list_object_versions(Bucket=bucket, Prefix="out/team-a/bot/")["Versions"]
    assert {each["Key"] for each in versions} == set(mine)


def test_a_missing_bucket_is_nothing_to_remove(job, lora_trainer):
    code, message = lora_trainer("cleanup", job(output={"uri": "s3://no-such-bucket-at-all/x"}))
    assert (code, message.reason) == (ExitCode.DONE, "ArtifactsRemoved")
    assert message.message.endswith("; the bucket no-such-bucket-at-all does not exist")


def test_a_wrong_secret_removes_nothing_and_is_no_permission(s3, bucket, job, lora_trainer, stored, monkeypatch):
    mine = stored()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    code, message = lora_trainer("cleanup", job())
    assert (code, message.reason) == (ExitCode.NO_PERMISSION, "NoPermission")
    assert "spec.storage.credentialsSecretRef" in message.hint
    assert keys(s3, bucket, "out/team-a/bot/") == sorted(mine)


def test_objects_that_may_not_be_removed_are_no_permission(
    s3, s3_server, bucket, job, lora_trainer, stored, monkeypatch
):
    mine = stored()
    reader = {"AWS_ACCESS_KEY_ID": f"reader-{bucket}", "AWS_SECRET_ACCESS_KEY": "reader-secret"}
    create_user(s3_server, *reader.values())
    allowed = {"Effect": "Allow", "Principal": {"AWS": [reader["AWS_ACCESS_KEY_ID"]]}}
    statements = [
        allowed | {"Action": ["s3:GetObject", "s3:PutObject"], "Resource": f"arn:aws:s3:::{bucket}/*"},
        allowed | {"Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{bucket}"},
    ]
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))
    for name, value in reader.items():
        monkeypatch.setenv(name, value)
    code, message = lora_trainer("cleanup", job())
    assert code == ExitCode.NO_PERMISSION
    assert message.message == f"spec.output.uri: s3://{bucket}/out/team-a/bot: S3 refused the access (AccessDenied)"
    assert keys(s3, bucket, "out/team-a/bot/") == sorted(mine)


def create_user(server, access_key, secret_key):
    """Make a user without rights, by the call that versitygw has for it."""
    body = f"<Account><Access>{access_key}</Access><Secret>{secret_key}</Secret><Role>user</Role></Account>"
    digest = hashlib.sha256(body.encode()).hexdigest()
    request = AWSRequest("PATCH", f"{server.endpoint}/create-user", data=body, headers={"x-amz-content-sha256": digest})
    S3SigV4Auth(Credentials(server.access_key, server.secret_key), "s3", "us-east-1").add_auth(request)
    answer = URLLib3Session().send(request.prepare())
    assert answer.status_code in (200, 201), answer.text


def test_a_server_that_is_away_is_service_unavailable(job, lora_trainer):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    code, _ = lora_trainer("cleanup", job(storage={"endpoint": endpoint, "pathStyle": True}))
    assert code == ExitCode.SERVICE_UNAVAILABLE


@pytest.mark.parametrize(("namespace", "name"), [("..", "bot"), ("team-a", ".."), ("team-a", "a/../..")])
def test_no_name_leads_out_of_the_folder(tmp_path, lora_trainer, job, namespace, name):
    content = json.loads(job().read_text()) | {"namespace": namespace, "name": name}
    content["spec"]["output"] = {"uri": f"file://{tmp_path}/out"}
    (tmp_path / "out/x").mkdir(parents=True)
    path = tmp_path / "evil.json"
    path.write_text(json.dumps(content))
    assert lora_trainer("cleanup", path)[0] == ExitCode.INVALID_REQUEST
    assert (tmp_path / "out/x").exists()


STOPPED_AFTER_THE_MANIFESTS = """
import os, sys
from pathlib import Path
from lora_trainer import cli
from lora_trainer.storage.s3 import S3

delete = S3._delete_objects

def stopped(self, folder, files, *rest):
    marked = delete(self, folder, files, *rest)
    if files and files[0].path.endswith("manifest.json"):
        os.kill(os.getpid(), int(sys.argv[2]))
    return marked

S3._delete_objects = stopped
code = cli.run("cleanup", Path(sys.argv[1]))
assert not sys.modules.get("torch")
os._exit(code)
"""


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGTERM, ExitCode.INTERRUPTED, "Interrupted: stopped by SIGTERM (the next attempt removes what is"),
        (signal.SIGKILL, -signal.SIGKILL, ""),
        (0, ExitCode.DONE, "ArtifactsRemoved: Removed 4 files"),
    ],
    ids=["SIGTERM", "SIGKILL", "undisturbed"],
)
def test_one_that_is_stopped_in_the_middle_leaves_no_manifest_and_the_next_finishes(
    s3, bucket, job, lora_trainer, stored, tmp_path, number, code, words
):
    stored("runs/1/log.jsonl")
    command = [sys.executable, "-c", STOPPED_AFTER_THE_MANIFESTS, str(job()), str(int(number))]
    environment = os.environ | {"LORA_SCRATCH": str(tmp_path / "scratch")}
    ended = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == code, ended.stderr
    assert words in ended.stderr
    left = keys(s3, bucket, "out/team-a/bot/")
    assert left == (
        [f"out/team-a/bot/{path}" for path in ("adapters/sha256-1/a", "runs/1/log.jsonl")] if number else []
    )
    assert lora_trainer("cleanup", job())[1].message.startswith(f"Removed {len(left)} files")
    assert neighbours(s3, bucket) == set(NEIGHBOURS)
