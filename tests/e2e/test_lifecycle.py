"""What a user may want of a job while it runs: stop it, go on, let it use two pods, let it go with all that it made."""

from typing import Any

from demo.kubectl import condition, get, kubectl
from support.lorajobs import LoRAJobs, resumed_steps
from support.wait import wait_for

STEPS = {"maxSteps": 20, "effectiveBatchSize": 16, "checkpoint": {"every": 2}}
"""Long enough on a fast machine: the status tells of a step up to 15 s after it."""


def patch(jobs: LoRAJobs, name: str, change: str) -> None:
    """Change the spec of a job, as a user does."""
    kubectl("-n", jobs.namespace, "patch", "lorajob", name, "--type=merge", "-p", change)


def step_of(jobs: LoRAJobs, name: str) -> int:
    """Return the step that the status shows."""
    return int(jobs.get(name).get("status", {}).get("progress", {}).get("step") or 0)


def test_a_suspended_job_goes_on_from_its_checkpoint(s3: Any, jobs: LoRAJobs) -> None:
    name = jobs.apply(jobs.sample("paused", training=STEPS))
    wait_for("some steps", lambda: step_of(jobs, name) >= 2, seconds=300)
    patch(jobs, name, '{"spec":{"suspend":true}}')
    suspended = wait_for(
        "the end of its pods",
        lambda: condition(jobs.get(name), "Suspended").get("reason") == "SuspendedByUser" and jobs.get(name),
        seconds=150,
        state=lambda: jobs.get(name).get("status"),
    )
    assert suspended["status"]["phase"] == "Suspended"
    assert jobs.children("pods", name, "train") == []
    assert jobs.children("jobs", name, "train") == []

    patch(jobs, name, '{"spec":{"suspend":false}}')
    status = jobs.wait_for(name, "Succeeded")["status"]
    assert status["run"] == 1
    assert (status["attempts"]["failures"], status["attempts"]["disruptions"]) == (0, 0)
    assert resumed_steps(s3, status)[-1] >= 2
    assert [each["step"] for each in status["lossCurve"]] == sorted(each["step"] for each in status["lossCurve"])


def test_a_job_that_is_deleted_takes_its_artifacts_along(s3: Any, jobs: LoRAJobs) -> None:
    training = {"maxSteps": 1, "effectiveBatchSize": 1}
    job = jobs.sample("short-lived", training=training, deletionPolicy="Delete")
    name = jobs.apply(job)
    status = jobs.wait_for(name, "Succeeded")["status"]
    bucket, _, _ = status["adapter"]["uri"].removeprefix("s3://").partition("/")
    folder = f"{jobs.namespace}/{name}/"
    assert keys(s3, bucket, folder)
    wait_for("the LoRAAdapter", lambda: get(jobs.namespace, "loraadapter", name))

    kubectl("-n", jobs.namespace, "delete", "lorajob", name, "--timeout=150s")
    assert keys(s3, bucket, folder) == []
    assert get(jobs.namespace, "loraadapter", name) is None


def keys(s3: Any, bucket: str, prefix: str) -> list[str]:
    """Return the keys below a prefix."""
    return [each["Key"] for each in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]


def test_two_pods_train_one_adapter(s3: Any, jobs: LoRAJobs) -> None:
    resources = {"gpus": 0, "nodes": 2, "cpu": "700m", "memory": "3Gi"}
    job = jobs.sample("together", training={"maxSteps": 2, "effectiveBatchSize": 4}, resources=resources)
    name = jobs.apply(job)
    wait_for("two pods", lambda: len(jobs.children("pods", name, "train")) == 2, seconds=180)
    status = jobs.wait_for(name, "Succeeded")["status"]
    assert status["progress"]["step"] == 2
    assert status["attempts"]["failures"] == 0
    assert get(jobs.namespace, "service", f"{name}-1")["spec"]["clusterIP"] == "None"  # type: ignore[index]
