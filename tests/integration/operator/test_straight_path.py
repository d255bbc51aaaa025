"""The operator process takes a job from a LoRAJob to a LoRAAdapter, against a real API server."""

import os

import pytest

from support.objects import Document, Objects, condition
from support.operator_process import Operator
from support.samples import ADAPTER, DIGEST, PREFLIGHT_DONE, TRAIN_DONE, lorajob
from support.wait import wait_for

PREFLIGHT, TRAIN = "support-bot-1-preflight", "support-bot-1-train"


def pass_preflight(cluster: Objects) -> None:
    """Play a preflight that passes."""
    pod = cluster.start_pod(PREFLIGHT)
    cluster.end_pod(pod["metadata"]["name"], 0, PREFLIGHT_DONE)
    cluster.complete_job(PREFLIGHT)


def run_to_success(cluster: Objects) -> Document:
    """Play a whole run."""
    cluster.create(lorajob())
    return cluster.run_to_success("support-bot")


def settle(cluster: Objects) -> None:
    """Wait for the last writes of a run: the event after the status, and the adapter's own status."""
    wait_for("the last event", lambda: "AdapterPublished" in [each["reason"] for each in cluster.list("Event")])
    wait_for("the adapter's status", lambda: condition(cluster.wait("LoRAAdapter", "support-bot"), "Ready"))


@pytest.mark.usefixtures("operator")
def test_a_job_becomes_an_adapter(cluster: Objects) -> None:
    job = run_to_success(cluster)

    assert job["status"]["phase"] == "Succeeded"
    assert job["status"]["observedGeneration"] == 1
    assert job["status"]["run"] == 1
    assert job["status"]["adapter"]["digest"] == DIGEST
    assert job["status"]["adapterDigestShort"] == "ab" * 6
    assert job["status"]["progress"]["percent"] == 100
    assert job["status"]["resolved"]["rows"] == 950
    assert condition(job, "PreflightPassed")["status"] == "True"
    assert condition(job, "Running")["reason"] == "Finished"
    assert all(each["observedGeneration"] == 1 and each["reason"] for each in job["status"]["conditions"])

    adapter = cluster.wait("LoRAAdapter", "support-bot")
    assert adapter["spec"]["source"]["uri"] == ADAPTER.uri
    assert adapter["spec"]["servedName"] == "support-bot"
    assert "ownerReferences" not in adapter["metadata"], "an adapter outlives its job"
    ready = wait_for("a status of the adapter", lambda: condition(cluster.wait("LoRAAdapter", "support-bot"), "Ready"))
    assert (ready["status"], ready["reason"]) == ("Unknown", "NoPods")


def test_events_tell_each_transition_once(cluster: Objects, operator: Operator) -> None:
    run_to_success(cluster)
    settle(cluster)

    assert sorted(each["reason"] for each in cluster.list("Event")) == [
        "AdapterPublished",
        "PreflightSucceeded",
        "Training",
    ]


@pytest.mark.skipif("LORA_TEST_KUBECONFIG" in os.environ, reason="a cluster of your own keeps no audit log for tests")
def test_a_second_look_writes_nothing(cluster: Objects, operator: Operator) -> None:
    run_to_success(cluster)
    settle(cluster)
    assert operator.stop() == 0, "a signal is a clean end"
    before = cluster.server.writes_of_operator(cluster.namespace)
    assert 9 <= len(before) <= 11, before  # what comes together is told together

    operator.restart()  # the first list puts every object into the queue
    wait_for("passes after the restart", lambda: operator.passes() >= 2)
    operator.stop()

    assert cluster.server.writes_of_operator(cluster.namespace) == before
    assert "Traceback" not in operator.log.read_text()


def test_kopf_leaves_no_trace_on_objects(cluster: Objects, operator: Operator) -> None:
    run_to_success(cluster)
    settle(cluster)

    for kind in ("LoRAJob", "LoRAAdapter", "Job", "Pod"):
        for each in cluster.list(kind):
            metadata = each["metadata"]
            own_finalizers = [name for name in metadata.get("finalizers", []) if not name.startswith("batch.")]
            assert own_finalizers == [], metadata["name"]
            assert not [key for key in metadata.get("annotations", {}) if "kopf" in key], metadata["name"]
    assert "annotations" not in cluster.wait("LoRAJob", "support-bot")["metadata"]


@pytest.mark.parametrize("moment", ["preflight", "train", "finished"])
def test_a_killed_operator_goes_on_where_it_was(cluster: Objects, operator: Operator, moment: str) -> None:
    cluster.create(lorajob())
    cluster.wait("Job", PREFLIGHT)
    _kill_and_restart(operator, moment == "preflight")
    pass_preflight(cluster)
    cluster.wait("Job", TRAIN)
    _kill_and_restart(operator, moment == "train")
    pod = cluster.start_pod(TRAIN)
    if moment == "finished":
        operator.kill()
    cluster.end_pod(pod["metadata"]["name"], 0, TRAIN_DONE)
    cluster.complete_job(TRAIN)
    if moment == "finished":
        operator.restart()
    cluster.wait_for_condition("support-bot", "Succeeded", "True")
    settle(cluster)

    assert sorted(each["metadata"]["name"] for each in cluster.list("Job")) == [PREFLIGHT, TRAIN]
    assert [each["metadata"]["name"] for each in cluster.list("LoRAAdapter")] == ["support-bot"]


def _kill_and_restart(operator: Operator, really: bool) -> None:
    if really:
        operator.kill()
        operator.restart()


def test_a_finished_job_stays_finished_when_its_jobs_are_removed(cluster: Objects, operator: Operator) -> None:
    run_to_success(cluster)
    settle(cluster)
    before = operator.passes()
    cluster.delete("Job", TRAIN)
    cluster.delete("Job", PREFLIGHT)
    wait_for("the operator saw it", lambda: operator.passes() > before)

    assert cluster.list("Job") == []
    assert cluster.wait("LoRAJob", "support-bot")["status"]["phase"] == "Succeeded"


def test_health_and_metrics_answer(operator: Operator) -> None:
    wait_for("a leader that looks at its resync", lambda: "lastResyncSeconds" in operator.health())
    assert operator.is_healthy()
    metrics = operator.read(operator.metrics_port, "/metrics")
    for name in ("loraop_workqueue_depth", "loraop_build_info", "loraop_reconcile_duration_seconds"):
        assert name in metrics
