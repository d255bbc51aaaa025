"""A job in a Kueue queue. The test plays Kueue: it writes Workloads, and the Job's suspend, node selector, tolerations.

Kueue's own module cannot be had here, so its part is played after what its documentation and sources say.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from support.apiserver import ApiServer
from support.objects import Document, Objects, condition
from support.samples import PREFLIGHT_DONE, TRAIN_DONE, lorajob
from support.wait import wait_for

PREFLIGHT, TRAIN = "support-bot-1-preflight", "support-bot-1-train"
NAME = "workloads.kueue.x-k8s.io"
WORKLOAD_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": NAME},
    "spec": {
        "group": "kueue.x-k8s.io",
        "scope": "Namespaced",
        "names": {"kind": "Workload", "plural": "workloads", "singular": "workload", "listKind": "WorkloadList"},
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}
NO_QUOTA = (
    "couldn't assign flavors to pod set main: insufficient quota for nvidia.com/gpu in flavor a100, 1 more needed"
)
PREEMPTED = "Preempted to accommodate a workload (UID: 1, JobUID: 2) due to prioritization in the ClusterQueue"


@pytest.fixture(scope="module", autouse=True)
def kueue(server: ApiServer) -> Iterator[None]:
    """Let the API server know Workloads."""
    assert server.run_kubectl("apply", "-f", "-", stdin=yaml.safe_dump(WORKLOAD_CRD)).returncode == 0
    waited = server.run_kubectl("wait", "--for=condition=Established", f"crd/{NAME}", "--timeout=30s")
    assert waited.returncode == 0, waited.stderr
    yield
    server.run_kubectl("delete", "crd", NAME)


def say(cluster: Objects, job: Document, *conditions: Document) -> None:
    """Write what Kueue says about a Job."""
    name = f"job-{job['metadata']['name']}"
    workload = {
        "apiVersion": "kueue.x-k8s.io/v1beta1",
        "kind": "Workload",
        "metadata": {"name": name, "labels": {"kueue.x-k8s.io/job-uid": job["metadata"]["uid"]}},
    }
    apply = ("apply", "--server-side", "--force-conflicts", "-n", cluster.namespace, "-f", "-")
    for extra, flags in (
        (workload, ()),
        (workload | {"status": {"conditions": list(conditions)}}, ("--subresource=status",)),
    ):
        done = cluster.server.run_kubectl(*apply, *flags, stdin=yaml.safe_dump(extra))
        assert done.returncode == 0, done.stderr


def of_kueue(kind: str, status: str, reason: str, message: str = "") -> Document:
    """Return a condition of a Workload."""
    time = "2026-01-02T03:04:05Z"
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": time}


def admit(cluster: Objects, name: str) -> None:
    """Let a Job start, on the nodes of a flavor, as Kueue does."""
    placement = {"nodeSelector": {"flavor": "a100"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]}
    cluster.patch("Job", name, {"spec": {"suspend": False, "template": {"spec": placement}}})


def admitted(cluster: Objects, status: str) -> Document:
    """Return the job as soon as its condition Admitted has a status."""
    return cluster.wait_for_condition("support-bot", "Admitted", status)


@pytest.mark.usefixtures("operator")
def test_queued_admitted_evicted_and_admitted_again(cluster: Objects) -> None:
    cluster.create(lorajob(scheduling={"queueName": "gpus"}))
    preflight = cluster.wait("Job", PREFLIGHT)
    assert preflight["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert preflight["spec"]["suspend"] is True
    admit(cluster, PREFLIGHT)
    pod = cluster.start_pod(PREFLIGHT)
    cluster.end_pod(pod["metadata"]["name"], 0, PREFLIGHT_DONE)
    cluster.complete_job(PREFLIGHT)

    job = cluster.wait("Job", TRAIN)
    say(cluster, job, of_kueue("QuotaReserved", "False", "Pending", NO_QUOTA))
    queued = wait_for("the reason", lambda: shown(cluster, NO_QUOTA), seconds=40)
    assert queued["status"]["phase"] == "Queued"
    assert condition(queued, "Admitted")["reason"] == "Queued"

    admit(cluster, TRAIN)
    pod = cluster.start_pod(TRAIN)
    assert admitted(cluster, "True")["status"]["phase"] in ("Running", "Scheduling")
    cluster.wait_for_condition("support-bot", "Running", "True")

    say(cluster, job, of_kueue("Evicted", "True", "Preempted", PREEMPTED))
    cluster.patch("Job", TRAIN, {"spec": {"suspend": True}})
    cluster.delete("Pod", pod["metadata"]["name"])  # as the Job controller does to a suspended Job
    evicted = admitted(cluster, "False")
    assert condition(evicted, "Admitted")["reason"] == "Preempted"
    assert PREEMPTED in condition(evicted, "Admitted")["message"]

    admit(cluster, TRAIN)
    pod = cluster.start_pod(TRAIN, 2)
    status = cluster.wait_for_condition("support-bot", "Running", "True")["status"]
    assert (status["attempts"]["disruptions"], status["attempts"]["failures"]) == (1, 0)
    kept = cluster.wait("Job", TRAIN)["spec"]["template"]["spec"]
    assert kept["nodeSelector"] == {"flavor": "a100"}, "what Kueue wrote is Kueue's"

    cluster.end_pod(pod["metadata"]["name"], 0, TRAIN_DONE)
    cluster.complete_job(TRAIN)
    done = cluster.wait_for_condition("support-bot", "Succeeded", "True")
    assert cluster.wait("Job", TRAIN)["metadata"]["uid"] == job["metadata"]["uid"], "the same Job all the way"
    assert "suspend" not in done["spec"]


def shown(cluster: Objects, text: str) -> Any:
    """Return the job if its condition Admitted has the text."""
    job = cluster.wait("LoRAJob", "support-bot")
    return job if text in condition(job, "Admitted").get("message", "") else None
