"""Bad input: refused at once, or explained within seconds; nothing loops, nothing asks for a GPU."""

import json
from typing import Any

import pytest

from demo.kubectl import apply, condition, kubectl
from demo.objects import s3_credentials
from demo.samples import SAMPLE_DATA
from support.lorajobs import LoRAJobs


def test_data_broken_in_row_17_fail_in_preflight_and_never_ask_for_a_gpu(s3: Any, jobs: LoRAJobs) -> None:
    rows = [json.loads(line) for line in SAMPLE_DATA.read_text().splitlines()]
    del rows[16]["messages"][1]["content"]
    s3.put_object(Bucket="datasets", Key="broken.jsonl", Body="\n".join(map(json.dumps, rows)).encode())
    job = jobs.sample("broken-data", dataset={"train": {"uri": "s3://datasets/broken.jsonl"}})
    name = jobs.apply(job)

    status = jobs.wait_for(name, "Failed")["status"]

    assert status["failure"]["reason"] == "BadData"
    assert status["failure"]["exitCode"] == 65
    assert status["failure"]["hint"]
    failed = condition({"status": status}, "Failed")
    for words in ("broken.jsonl", "row 17", "messages[1].content"):
        assert words in failed["message"]
    assert jobs.children("jobs", name, "train") == []


def test_a_wrong_s3_secret_is_named_and_not_tried_again(jobs: LoRAJobs) -> None:
    apply(jobs.namespace, s3_credentials("wrong", "not-the-secret"))
    job = jobs.sample("wrong-secret")
    job["spec"]["storage"]["credentialsSecretRef"] = {"name": "wrong"}
    name = jobs.apply(job)

    status = jobs.wait_for(name, "Failed")["status"]

    assert (status["failure"]["reason"], status["failure"]["exitCode"]) == ("NoPermission", 77)
    assert "credentialsSecretRef" in status["failure"]["message"] + status["failure"]["hint"]
    assert len(jobs.children("pods", name)) == 1
    assert jobs.children("jobs", name, "train") == []


def test_a_missing_bucket_is_named(s3: Any, jobs: LoRAJobs) -> None:
    name = jobs.apply(jobs.sample("no-bucket", output={"uri": "s3://no-such-bucket"}))

    failure = jobs.wait_for(name, "Failed")["status"]["failure"]

    assert (failure["reason"], failure["exitCode"]) == ("InputNotFound", 66)
    assert "no-such-bucket" in failure["message"]
    assert "spec.output.uri" in failure["message"] + failure["hint"]


def test_a_missing_secret_is_a_condition_within_seconds_and_heals(s3: Any, jobs: LoRAJobs) -> None:
    job = jobs.sample("no-secret")
    job["spec"]["storage"]["credentialsSecretRef"] = {"name": "forgotten"}
    job["spec"]["training"] = {"maxSteps": 1, "effectiveBatchSize": 1}
    name = jobs.apply(job)

    stalled = condition(jobs.wait_for(name, "Stalled", seconds=60), "Stalled")

    assert stalled["reason"] == "SecretNotFound"
    assert "forgotten" in stalled["message"]
    (pod,) = jobs.children("pods", name)
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0

    apply(jobs.namespace, s3_credentials("forgotten"))
    jobs.wait_for(name, "PreflightPassed", seconds=180)
    assert condition(jobs.get(name), "Stalled").get("status") != "True"


def test_a_field_of_a_later_release_is_refused_by_name(jobs: LoRAJobs) -> None:
    job = jobs.sample("not-yet", deletionPolicy="Delete")
    name = jobs.apply(job)

    stalled = condition(jobs.wait_for(name, "Stalled", seconds=30), "Stalled")

    assert stalled["reason"] == "NotSupported"
    assert "spec.deletionPolicy" in stalled["message"]
    assert jobs.children("jobs", name) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lora": {"rnak": 8}}, ['unknown field "spec.lora.rnak"']),
        ({"lora": {"rank": 0}}, ["spec.lora.rank", "should be greater than or equal to 1"]),
        (
            {"baseModel": {"uri": "ftp://x/y"}},
            ["spec.baseModel.uri", "write hf://owner/name, s3://bucket/path or"],
        ),
        (
            {
                "dataset": {
                    "train": {"uri": "s3://datasets/a"},
                    "validation": {"uri": "s3://datasets/b", "fraction": 0.1},
                }
            },
            ["spec.dataset.validation", "write either fraction", "not both"],
        ),
    ],
)
def test_what_one_object_can_prove_wrong_is_refused_by_the_api_server(
    jobs: LoRAJobs, change: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(RuntimeError) as refused:
        jobs.apply(jobs.sample("refused", **change))
    for each in words:
        assert each in str(refused.value)
    assert kubectl("-n", jobs.namespace, "get", "lorajob", "-o", "name") == ""
