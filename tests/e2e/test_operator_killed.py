"""An operator that dies in the middle costs nothing: one training pod, one adapter."""

from typing import Any

from demo.kubectl import get, items, kubectl
from support.lorajobs import LoRAJobs
from support.wait import wait_for

SYSTEM = "lora-system"


def operator_pods() -> list[dict[str, Any]]:
    return items(SYSTEM, "pods", "app.kubernetes.io/name=lora-operator")


def kill_operator() -> str:
    """Kill the operator without a grace period (SIGKILL), and return the name of the pod that died."""
    (pod,) = operator_pods()
    name = str(pod["metadata"]["name"])
    kubectl("-n", SYSTEM, "delete", "pod", name, "--grace-period=0", "--force", "--wait=true")
    return name


def ready_operator_other_than(dead: str) -> bool:
    return any(
        pod["metadata"]["name"] != dead
        and any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))
        for pod in operator_pods()
    )


def test_the_operator_is_killed_in_the_middle_and_the_job_ends_as_if_nothing_had_happened(
    s3: Any, jobs: LoRAJobs
) -> None:
    job = jobs.sample("survivor", training={"maxSteps": 8, "effectiveBatchSize": 4})
    name = jobs.apply(job)

    wait_for("the preflight Job", lambda: jobs.children("jobs", name, "preflight"), seconds=60)
    dead = kill_operator()
    wait_for("a new operator", lambda: ready_operator_other_than(dead), seconds=90)
    wait_for("the training pod", lambda: jobs.children("pods", name, "train"), seconds=240)
    kill_operator()

    finished = jobs.wait_for(name, "Succeeded")
    adapter = wait_for("the LoRAAdapter", lambda: get(jobs.namespace, "loraadapter", name), seconds=60)

    assert adapter["spec"]["source"]["digest"] == finished["status"]["adapter"]["digest"]
    assert len(items(jobs.namespace, "loraadapter")) == 1
    for stage in ("preflight", "train"):
        assert len(jobs.children("jobs", name, stage)) == len(jobs.children("pods", name, stage)) == 1
