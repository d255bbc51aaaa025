"""The operator process and what a user may want of a job while it runs, against a real API server."""

import json
from typing import Any

import pytest

from support.objects import Document, Objects, condition
from support.operator_process import Operator
from support.samples import PREFLIGHT_DONE, lorajob
from support.wait import wait_for

PREFLIGHT, TRAIN, CLEANUP = (f"support-bot-1-{stage}" for stage in ("preflight", "train", "cleanup"))


def start_training(cluster: Objects, **spec: Any) -> Document:
    """Play a job until its training runs."""
    cluster.create(lorajob(**spec))
    pod = cluster.start_pod(PREFLIGHT)
    cluster.end_pod(pod["metadata"]["name"], 0, PREFLIGHT_DONE)
    cluster.complete_job(PREFLIGHT)
    pod = cluster.start_pod(TRAIN)
    cluster.wait_for_condition("support-bot", "Running", "True")
    return pod


def phase(cluster: Objects) -> str:
    """Return the phase of the job."""
    return str((cluster.get("LoRAJob", "support-bot") or {}).get("status", {}).get("phase"))


@pytest.mark.usefixtures("operator")
def test_suspend_and_resume(cluster: Objects) -> None:
    start_training(cluster)
    old = cluster.wait("Job", TRAIN)
    cluster.patch("LoRAJob", "support-bot", {"spec": {"suspend": True}})
    cluster.collect(TRAIN)
    wait_for("Suspended", lambda: phase(cluster) == "Suspended")
    job = cluster.wait_for_condition("support-bot", "Suspended", "True")
    wait_for("the last word", lambda: reason(cluster, "Suspended") == "SuspendedByUser")
    assert job["spec"]["suspend"] is True, "the spec is the user's"

    cluster.patch("LoRAJob", "support-bot", {"spec": {"suspend": False}})
    new = cluster.wait("Job", TRAIN)
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    cluster.start_pod(TRAIN, 2)
    job = cluster.wait_for_condition("support-bot", "Running", "True")
    assert job["status"]["run"] == 1
    assert job["status"]["attempts"]["disruptions"] == 0


def reason(cluster: Objects, kind: str) -> str | None:
    """Return the reason of a condition of the job."""
    return condition(cluster.wait("LoRAJob", "support-bot"), kind).get("reason")


@pytest.mark.usefixtures("operator")
def test_a_changed_spec_becomes_the_next_run(cluster: Objects) -> None:
    start_training(cluster)
    cluster.patch("LoRAJob", "support-bot", {"spec": {"lora": {"rank": 4}}})
    cluster.collect(TRAIN)
    cluster.collect(PREFLIGHT)
    cluster.wait("Job", "support-bot-2-preflight")
    status = cluster.wait("LoRAJob", "support-bot")["status"]
    assert [(each["run"], each["result"]) for each in status["history"]] == [(1, "Superseded")]
    template = cluster.wait("Job", "support-bot-2-preflight")["spec"]["template"]
    told = json.loads(template["metadata"]["annotations"]["lora-operator.io/job-file"])
    assert (told["run"], told["spec"]["lora"]["rank"]) == (2, 4)


@pytest.mark.usefixtures("operator")
def test_a_wrong_image_is_corrected_in_place(cluster: Objects) -> None:
    cluster.create(lorajob(pod={"image": "images.example/wrong:1"}))
    pod = cluster.start_pod(PREFLIGHT, running=False)
    state = {"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}}
    cluster.set_pod_state(pod["metadata"]["name"], "Pending", state)
    cluster.wait_for_condition("support-bot", "Stalled", "True")

    cluster.patch("LoRAJob", "support-bot", {"spec": {"pod": {"image": "images.example/right:1"}}})
    cluster.collect(PREFLIGHT)

    def image() -> bool:
        job = cluster.get("Job", PREFLIGHT)
        return bool(job) and job["spec"]["template"]["spec"]["containers"][0]["image"] == "images.example/right:1"

    wait_for("a Job with the right image", image)
    cluster.wait_for_condition("support-bot", "Stalled", "False")
    assert cluster.wait("LoRAJob", "support-bot")["status"]["run"] == 1


@pytest.mark.usefixtures("operator")
def test_pods_and_jobs_go_when_their_time_is_over_and_the_lorajob_stays(cluster: Objects) -> None:
    cluster.create(lorajob(ttlSecondsAfterFinished=1))
    cluster.run_to_success("support-bot")
    cluster.collect(TRAIN)
    cluster.collect(PREFLIGHT)
    assert phase(cluster) == "Succeeded"
    assert cluster.list("Job") == []


@pytest.mark.usefixtures("operator")
def test_the_deadline_ends_a_run(cluster: Objects) -> None:
    start_training(cluster, failurePolicy={"activeDeadlineSeconds": 5})
    job = cluster.wait_for_condition("support-bot", "Failed", "True")
    assert job["status"]["failure"]["reason"] == "DeadlineExceeded"
    cluster.collect(TRAIN)


def test_artifacts_go_with_their_job(cluster: Objects, operator: Operator) -> None:
    start_training(cluster, deletionPolicy="Delete")
    assert "lora-operator.io/artifacts" in cluster.wait("LoRAJob", "support-bot")["metadata"]["finalizers"]
    delete(cluster)
    cluster.collect(TRAIN)
    cluster.collect(PREFLIGHT)
    pod = cluster.start_pod(CLEANUP)
    cluster.end_pod(pod["metadata"]["name"], 0)
    cluster.complete_job(CLEANUP)
    wait_for("the LoRAJob is gone", lambda: cluster.get("LoRAJob", "support-bot") is None)
    assert "Traceback" not in operator.log.read_text()


def delete(cluster: Objects) -> None:
    """Ask for the end of the job, and do not wait for it."""
    done = cluster.server.run_kubectl("delete", "lorajob", "support-bot", "-n", cluster.namespace, "--wait=false")
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("operator")
def test_retain_lets_a_job_go_whose_artifacts_cannot_be_removed(cluster: Objects) -> None:
    start_training(cluster, deletionPolicy="Delete")
    delete(cluster)
    cluster.collect(TRAIN)
    cluster.collect(PREFLIGHT)
    pod = cluster.start_pod(CLEANUP)
    cluster.end_pod(pod["metadata"]["name"], 77)
    cluster.fail_job(CLEANUP, "PodFailurePolicy")
    wait_for("CleanupFailed", lambda: reason(cluster, "Stalled") == "CleanupFailed")

    cluster.patch("LoRAJob", "support-bot", {"spec": {"deletionPolicy": "Retain"}})
    wait_for("the LoRAJob is gone", lambda: cluster.get("LoRAJob", "support-bot") is None)


def test_a_namespace_that_is_being_deleted_is_not_held_up(cluster: Objects, operator: Operator) -> None:
    cluster.create(lorajob(deletionPolicy="Delete"))
    cluster.wait("Job", PREFLIGHT)
    wait_for("a status that tells of the run", lambda: phase(cluster) == "Preflight")
    operator.kill()
    cluster.server.run_kubectl("delete", "namespace", cluster.namespace, "--wait=false")
    delete(cluster)
    operator.restart()
    cluster.collect(PREFLIGHT)
    wait_for("the LoRAJob is gone", lambda: cluster.get("LoRAJob", "support-bot") is None)


@pytest.mark.usefixtures("operator")
def test_the_same_file_a_hundred_times_is_one_run_and_no_write(cluster: Objects) -> None:
    start_training(cluster)
    before = cluster.wait("LoRAJob", "support-bot")
    text = json.dumps(lorajob())
    for _ in range(20):  # five applies a request, as a directory of manifests would be
        done = cluster.server.run_kubectl("apply", "-n", cluster.namespace, "-f", "-", stdin="\n---\n".join([text] * 5))
        assert done.returncode == 0, done.stderr
    after = cluster.wait("LoRAJob", "support-bot")
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["status"] == before["status"]
    assert len(cluster.list("Job")) == 2


@pytest.mark.usefixtures("operator")
def test_several_nodes_get_a_service_and_an_indexed_job(cluster: Objects) -> None:
    cluster.create(lorajob(resources={"nodes": 2}, preflight={"enabled": False}))
    job, service = cluster.wait("Job", TRAIN), cluster.wait("Service", "support-bot-1")
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
