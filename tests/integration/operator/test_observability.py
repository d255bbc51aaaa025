"""What the operator process tells about itself while a job goes from a LoRAJob to a LoRAAdapter."""

import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from support.objects import Objects
from support.operator_process import Operator
from support.samples import ADAPTER, lorajob
from support.wait import wait_for

Labels = tuple[tuple[str, str], ...]


def metrics(operator: Operator) -> dict[tuple[str, Labels], float]:
    """Return all samples by name and labels."""
    families = text_string_to_metric_families(operator.read(operator.metrics_port, "/metrics"))
    return {(each.name, tuple(sorted(each.labels.items()))): each.value for one in families for each in one.samples}


def value(operator: Operator, name: str, **labels: str) -> float | None:
    return metrics(operator).get((f"loraop_{name}", tuple(sorted(labels.items()))))


def total(operator: Operator, name: str, **labels: str) -> float:
    """Return the sum of all samples that have these labels."""
    wanted = labels.items()
    return sum(
        number for (found, has), number in metrics(operator).items() if found == f"loraop_{name}" and wanted <= set(has)
    )


def lines(operator: Operator) -> list[dict[str, Any]]:
    """Return the log. A line that is no JSON fails."""
    return [json.loads(line) for line in operator.log.read_text().splitlines()]


def run_to_success(cluster: Objects) -> None:
    cluster.create(lorajob())
    cluster.run_to_success("support-bot")
    cluster.wait("LoRAAdapter", "support-bot")
    wait_for("the last event", lambda: "AdapterPublished" in [each["reason"] for each in cluster.list("Event")])


def test_the_numbers_of_a_run(cluster: Objects, operator: Operator) -> None:
    run_to_success(cluster)
    wait_for("the end of the last pass", lambda: value(operator, "run_duration_seconds_count", result="Succeeded"))

    assert value(operator, "leader") == 1
    assert value(operator, "lorajobs", phase="Succeeded") == 1
    assert total(operator, "lorajobs") == 1
    for stage in ("preflight", "train"):
        assert value(operator, "time_to_job_seconds_count", stage=stage) == 1
    assert (value(operator, "time_to_job_seconds_sum", stage="preflight") or 0) < 30
    assert value(operator, "run_duration_seconds_count", result="Succeeded") == 1
    assert value(operator, "adapter_bytes_sum") == ADAPTER.bytes
    assert total(operator, "run_failures_total") == 0
    assert value(operator, "failed_attempts_total") == 0
    assert value(operator, "disruptions_total") == 0

    passes = value(operator, "reconcile_total", kind="LoRAJob", result="success") or 0
    assert passes >= 3, "one each for the preflight, the training and the result; events close together share a pass"
    assert value(operator, "reconcile_total", kind="LoRAJob", result="error") is None
    assert total(operator, "workqueue_adds_total", kind="LoRAJob") >= 3
    assert total(operator, "workqueue_wait_seconds_count") == total(operator, "reconcile_total")
    assert total(operator, "api_requests_total", resource="jobs", code="201") == 2, "two Jobs were created"
    assert total(operator, "api_requests_total", resource="lorajobs", code="200") > 0
    assert metrics(operator)["process_resident_memory_bytes", ()] > 10e6


def test_a_failure_is_counted_by_its_reason_and_a_job_that_is_gone_is_counted_no_more(
    cluster: Objects, operator: Operator
) -> None:
    cluster.create(lorajob())
    pod = cluster.start_pod("support-bot-1-preflight")
    cluster.end_pod(pod["metadata"]["name"], 65)
    cluster.fail_job("support-bot-1-preflight", "PodFailurePolicy")
    cluster.wait_for_condition("support-bot", "Failed", "True")

    wait_for("the failure", lambda: value(operator, "run_failures_total", reason="BadData") == 1)
    assert value(operator, "run_duration_seconds_count", result="Failed") == 1
    assert value(operator, "lorajobs", phase="Failed") == 1
    cluster.delete("LoRAJob", "support-bot")
    wait_for("the job is counted no more", lambda: total(operator, "lorajobs") == 0)


def test_a_restart_counts_the_jobs_and_no_run_twice(cluster: Objects, operator: Operator) -> None:
    run_to_success(cluster)
    operator.kill()
    operator.restart()
    wait_for("metrics", lambda: operator.passes() >= 2)
    wait_for("the phase", lambda: value(operator, "lorajobs", phase="Succeeded") == 1)
    assert total(operator, "run_duration_seconds_count") == 0
    assert total(operator, "time_to_job_seconds_count") == 0
    assert total(operator, "adapter_bytes_count") == 0


def test_every_line_is_json_and_those_of_a_pass_name_object_and_generation(
    cluster: Objects, operator: Operator
) -> None:
    run_to_success(cluster)
    assert operator.stop() == 0

    told = {each["reason"]: each for each in lines(operator) if "reason" in each}
    assert {"PreflightSucceeded", "Training", "AdapterPublished"} <= set(told)
    key = {"kind": "LoRAJob", "namespace": cluster.namespace, "name": "support-bot"}
    for each in lines(operator):
        assert {"time", "level", "logger", "message"} <= set(each)
        if each["logger"].startswith("lora_operator.reconcile.lorajob"):
            assert each["key"] == key
            assert each["generation"] == 1


def test_where_nothing_happens_nothing_is_logged(cluster: Objects, operator: Operator) -> None:
    run_to_success(cluster)
    operator.stop()
    before = len(lines(operator))
    operator.restart()  # its first list makes a pass over every object
    wait_for("passes after the restart", lambda: operator.passes() >= 2)
    assert [each for each in lines(operator)[before:] if "key" in each] == []
