"""An operator that dies in the middle costs nothing: one training pod, one adapter."""

import os
import signal
from pathlib import Path
from typing import Any

from demo.kubectl import get, items, kubectl
from support.lorajobs import LoRAJobs
from support.wait import wait_for

SYSTEM = "lora-system"


def operator_pods() -> list[dict[str, Any]]:
    """Return the pods of the operator. One that ends serves its webhook some seconds longer, and does not count."""
    found = items(SYSTEM, "pods", "app.kubernetes.io/name=lora-operator,app.kubernetes.io/component=controller")
    return [each for each in found if "deletionTimestamp" not in each["metadata"]]


def start_afresh() -> None:
    """Give the operator a new pod: the kubelet restarts one that was killed often later and later."""
    kubectl("-n", SYSTEM, "rollout", "restart", "deployment/lora-operator")
    kubectl("-n", SYSTEM, "rollout", "status", "deployment/lora-operator", "--timeout=120s")


def kill_operator() -> dict[str, Any]:
    """Kill the operator with SIGKILL, and return the pod as it was.

    On the machine of the node the very process is killed; on a cluster elsewhere the pod is deleted without grace.
    """
    (pod,) = operator_pods()
    processes = processes_of(pod["metadata"]["uid"])
    for process in processes:
        os.kill(process, signal.SIGKILL)
    if not processes:
        kubectl("-n", SYSTEM, "delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")
    return pod


def processes_of(pod_uid: str) -> list[int]:
    """Return the operator's processes in a pod, if the pod runs on this machine."""
    return [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and pod_uid in read(folder / "cgroup") and "lora-operator" in read(folder / "cmdline")
    ]


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has gone meanwhile
        return ""


def runs_again_after(dead: dict[str, Any]) -> bool:
    return any(
        status["ready"] and status["containerID"] != dead["status"]["containerStatuses"][0]["containerID"]
        for pod in operator_pods()
        for status in pod["status"].get("containerStatuses", [])
    )


def test_the_operator_is_killed_in_the_middle_and_the_job_ends_as_if_nothing_had_happened(
    s3: Any, jobs: LoRAJobs
) -> None:
    start_afresh()
    job = jobs.sample("survivor", training={"maxSteps": 8, "effectiveBatchSize": 4})
    name = jobs.apply(job)

    wait_for("the preflight Job", lambda: jobs.children("jobs", name, "preflight"), seconds=60)
    dead = kill_operator()
    wait_for("a new operator", lambda: runs_again_after(dead), seconds=90)
    wait_for("the training pod", lambda: jobs.children("pods", name, "train"), seconds=240)
    kill_operator()

    finished = jobs.wait_for(name, "Succeeded")
    adapter = wait_for("the LoRAAdapter", lambda: get(jobs.namespace, "loraadapter", name), seconds=60)

    assert adapter["spec"]["source"]["digest"] == finished["status"]["adapter"]["digest"]
    assert len(items(jobs.namespace, "loraadapter")) == 1
    for stage in ("preflight", "train"):
        assert len(jobs.children("jobs", name, stage)) == len(jobs.children("pods", name, stage)) == 1
