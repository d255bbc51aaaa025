"""What the pods of one troubled run find out, in a real API server: each once, and kept to the end."""

import pytest

from lora_api.loss_curve import MAX_CURVE_POINTS, CurvePoint, curve_of
from lora_api.messages import TerminationMessage
from support.objects import Objects, condition
from support.samples import ADAPTER, PREFLIGHT_DONE, RESOLVED, TRAIN_DONE, checkpoint, lorajob
from support.wait import wait_for

PREFLIGHT, TRAIN = "support-bot-1-preflight", "support-bot-1-train"
WARNED = PREFLIGHT_DONE.model_copy(update={"preflight": RESOLVED.model_copy(update={"warnings": ["12 rows are cut"]})})
STOPPED = TerminationMessage(
    reason="Interrupted",
    message="stopped by SIGTERM",
    checkpoint=checkpoint(63),
    micro_batch_size=2,
    overfitting="the evaluation loss rose from 1.2 to 1.6",
    loss_curve=[CurvePoint(step=step, loss=2.5, eval_loss=1.6 if step == 60 else None) for step in (1, 60, 63)],
)
STOPPED_CURVE = [{"step": 1, "loss": 2.5}, {"step": 60, "loss": 2.5, "evalLoss": 1.6}, {"step": 63, "loss": 2.5}]
NOT_BETTER = TerminationMessage(reason="GateNotPassed", message="evalLoss rose", step=118, adapter=ADAPTER)


@pytest.mark.usefixtures("operator")
def test_a_warned_interrupted_overfitted_run_whose_gate_stays_shut(cluster: Objects) -> None:
    cluster.create(lorajob())
    pod = cluster.start_pod(PREFLIGHT)
    cluster.end_pod(pod["metadata"]["name"], 0, WARNED)
    cluster.complete_job(PREFLIGHT)

    pod = cluster.start_pod(TRAIN)
    cluster.wait_for_condition("support-bot", "Running", "True")
    cluster.end_pod(pod["metadata"]["name"], 75, STOPPED)
    job = cluster.wait_for_condition("support-bot", "Overfitting", "True")
    assert job["status"]["lossCurve"] == STOPPED_CURVE
    assert "go on from the checkpoint of step 63" in condition(job, "Running")["message"]
    assert (job["status"]["attempts"]["failures"], job["status"]["attempts"]["disruptions"]) == (0, 1)
    assert job["status"]["checkpoint"]["step"] == 63
    wide = cluster.server.run_kubectl("get", "lj", "support-bot", "-n", cluster.namespace, "-o", "wide").stdout
    assert wide.split()[-1] == "63"

    pod = cluster.start_pod(TRAIN, 2)
    cluster.wait_for_condition("support-bot", "Running", "True")
    cluster.end_pod(pod["metadata"]["name"], 81, NOT_BETTER)
    cluster.fail_job(TRAIN, "PodFailurePolicy")
    job = cluster.wait_for_condition("support-bot", "Failed", "True")
    assert job["status"]["reason"] == "GateNotPassed"
    assert job["status"]["adapter"]["digest"] == ADAPTER.digest
    assert job["status"]["progress"]["microBatchSize"] == 2
    assert job["status"]["checkpoint"]["step"] == 63
    assert job["status"]["lossCurve"] == STOPPED_CURVE, "an older trainer takes nothing back"
    assert condition(job, "Overfitting")["message"] == STOPPED.overfitting

    wait_for("the last event", lambda: "GateNotPassed" in [each["reason"] for each in cluster.list("Event")])
    assert sorted(each["reason"] for each in cluster.list("Event")) == [
        "EvaluationLossRising",
        "GateNotPassed",
        "MicroBatchReduced",
        "PreflightSucceeded",
        "PreflightWarning",
        "Retrying",
        "Training",
        "Training",
    ]
    assert cluster.list("LoRAAdapter") == []


@pytest.mark.usefixtures("operator")
def test_a_job_whose_pod_was_never_heard_gets_the_whole_curve(cluster: Objects) -> None:
    """The pod here has no address: as one that ends before it is asked."""
    losses = [CurvePoint(step=step, loss=3.0 - step / 100, eval_loss=None if step % 50 else 2.0) for step in range(200)]
    cluster.create(lorajob())
    pod = cluster.start_pod(PREFLIGHT)
    cluster.end_pod(pod["metadata"]["name"], 0, PREFLIGHT_DONE)
    cluster.complete_job(PREFLIGHT)
    pod = cluster.start_pod(TRAIN)
    cluster.end_pod(pod["metadata"]["name"], 0, TRAIN_DONE.model_copy(update={"loss_curve": losses}))
    cluster.complete_job(TRAIN)
    job = cluster.wait_for_condition("support-bot", "Succeeded", "True")
    curve = job["status"]["lossCurve"]
    assert len(curve) == MAX_CURVE_POINTS
    assert (curve[0]["step"], curve[-1]["step"]) == (0, 199)
    assert curve == [each.wire() for each in curve_of(losses)]
