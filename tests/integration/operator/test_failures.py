"""Failures that need a GPU or another node: the kubelet, the scheduler and the pod garbage collector are played.

What they write was copied from a cluster of version 1.36, or from its source. Failures that a machine without a GPU can
provoke for real are in `tests/e2e/test_failures.py`. That a training which gets stuck ends with code 82 is the
trainer's own affair; here is what becomes of it.
"""

import pytest

from lora_api.messages import TerminationMessage
from support.objects import Document, Objects, condition
from support.operator_process import Operator
from support.samples import PREFLIGHT_DONE, checkpoint, lorajob
from support.wait import wait_for

PREFLIGHT, TRAIN = "support-bot-1-preflight", "support-bot-1-train"
SHORT_OF_GPUS = (
    "0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint {gpu: true}. "
    "preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful "
    "for scheduling."
)


def pass_preflight(cluster: Objects, **spec: object) -> None:
    cluster.create(lorajob(**spec))
    cluster.end_pod(cluster.start_pod(PREFLIGHT)["metadata"]["name"], 0, PREFLIGHT_DONE)
    cluster.complete_job(PREFLIGHT)


def failure_of(cluster: Objects) -> Document:
    found: Document = cluster.wait("LoRAJob", "support-bot").get("status", {}).get("failure") or {}
    return found


@pytest.mark.parametrize(
    ("code", "reason", "hint"),
    [
        (71, "OutOfGPUMemory", ["spec.training.maxLength", "larger GPU", "from its last checkpoint"]),
        (82, "TrainingStalled", ["spec.failurePolicy.stallTimeoutSeconds", "from its last checkpoint"]),
    ],
)
def test_the_last_try_fails(cluster: Objects, operator: Operator, code: int, reason: str, hint: list[str]) -> None:
    pass_preflight(cluster)
    pod = cluster.start_pod(TRAIN)
    words = TerminationMessage(reason=reason, message="in the trainer's words", step=60, checkpoint=checkpoint(50))
    cluster.end_pod(pod["metadata"]["name"], code, words)
    cluster.fail_job(TRAIN)

    status = cluster.wait_for_condition("support-bot", "Failed", "True")["status"]

    assert (status["failure"]["reason"], status["failure"]["exitCode"]) == (reason, code)
    assert status["failure"]["message"] == "in the trainer's words"
    for each in hint:
        assert each in status["failure"]["hint"]
    assert status["checkpoint"]["step"] == 50


def test_a_node_that_is_gone_is_a_disruption_and_the_run_goes_on(cluster: Objects, operator: Operator) -> None:
    pass_preflight(cluster)
    pod = cluster.start_pod(TRAIN)["metadata"]["name"]
    cluster.wait_for_condition("support-bot", "Running", "True")

    gone = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}
    cluster.set_status(  # the pod garbage collector knows nothing of the container, whose last state stays
        "Pod", pod, {"phase": "Failed", "conditions": [gone | {"message": "PodGC: node no longer exists"}]}
    )
    job = cluster.wait_for_condition("support-bot", "Running", "False")
    running = condition(job, "Running")
    assert running["reason"] == "Retrying"
    assert f"Pod {pod} was lost with its node node-1: PodGC: node no longer exists" in running["message"]
    assert "failure" not in job["status"]

    cluster.delete("Pod", pod)
    cluster.start_pod(TRAIN, 2)
    job = cluster.wait_for_condition("support-bot", "Running", "True")
    attempts = job["status"]["attempts"]
    assert (attempts.get("failures", 0), attempts["disruptions"]) == (0, 1)


def test_no_node_fits_is_shown_while_it_lasts(cluster: Objects, operator: Operator) -> None:
    pass_preflight(cluster)
    pod = start_without_node(cluster, SHORT_OF_GPUS)
    failure = wait_for("the failure", lambda: failure_of(cluster), state=lambda: cluster.get("LoRAJob", "support-bot"))

    assert failure["reason"] == "Unschedulable"
    assert (
        "nvidia.com/gpu is short on 1 of 3 nodes, the taint gpu=true is not tolerated on 2 of 3" in failure["message"]
    )
    assert "spec.resources.gpus (now 1)" in failure["hint"]
    assert "gpu=true to spec.scheduling.tolerations" in failure["hint"]
    job = cluster.wait("LoRAJob", "support-bot")
    assert condition(job, "Scheduled")["reason"] == "Unschedulable"
    assert condition(job, "Stalled").get("status") != "True", "a cluster that grows may help"

    cluster.set_pod_state(pod, "Running", {"running": {}})
    cluster.wait_for_condition("support-bot", "Running", "True")
    assert failure_of(cluster) == {}


def test_a_missing_claim_stalls_the_job(cluster: Objects, operator: Operator) -> None:
    pass_preflight(cluster, baseModel={"uri": "hf://owner/name", "cacheClaimName": "bases"})
    start_without_node(cluster, '0/3 nodes are available: persistentvolumeclaim "bases" not found. not found')
    cluster.wait_for_condition("support-bot", "Stalled", "True")

    failure = failure_of(cluster)
    assert failure["reason"] == "ClaimNotFound"
    assert 'PersistentVolumeClaim "bases" does not exist' in failure["message"]
    assert "spec.baseModel.cacheClaimName" in failure["hint"]


def start_without_node(cluster: Objects, message: str) -> str:
    """Make the training pod, and say of it what the scheduler says of a pod that no node takes."""
    job = cluster.wait("Job", TRAIN)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": TRAIN, "uid": job["metadata"]["uid"], "controller": True}
    template, name = job["spec"]["template"], f"{TRAIN}-1"
    metadata = template["metadata"] | {"name": name, "ownerReferences": [owner]}
    cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    unbound = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    cluster.set_status("Pod", name, {"phase": "Pending", "conditions": [unbound]})
    return name
