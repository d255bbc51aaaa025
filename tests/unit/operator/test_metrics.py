"""The operator's metrics: what they count, that their number has a bound, and that the page explains each."""

import re
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from lora_api.lorajob_status import Phase
from lora_api.reasons import Reason
from lora_operator.app.admission import Admission
from lora_operator.app.metrics import Metrics
from lora_operator.cluster.client import EVENTS, JOBS, LORAJOBS, PODS
from lora_operator.cluster.requests import describe
from lora_operator.domain.measures import Measure, Measured
from lora_operator.reconcile.keys import Key, Kind
from lora_operator.reconcile.queue import WorkQueue

PAGE = Path(__file__).parents[3] / "docs" / "observability.md"
KEY = Key(Kind.LORAJOB, "team-a", "support-bot")


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    found: float | None = metrics.registry.get_sample_value(name, labels)
    return found


def job(number: int) -> Key:
    return Key(Kind.LORAJOB, f"team-{number % 20}", f"job-{number}")


def test_a_pass_is_counted_with_its_result_and_its_times() -> None:
    now, metrics = [0.0], Metrics()
    queue: WorkQueue[Key] = WorkQueue(clock=lambda: now[0], observer=metrics.observe)
    for error, refused in ((None, False), (ValueError(), False), (None, True), (None, False)):
        queue.add(KEY)
        now[0] += 400.0  # also past the delay after a failure
        queue.take()
        if refused:
            metrics.refused(KEY)
        now[0] += 0.02
        queue.finish(KEY, error=error)

    results = {each: value(metrics, "loraop_reconcile_total", kind="LoRAJob", result=each) for each in _RESULTS}
    assert results == {"success": 2, "error": 1, "refused": 1}
    assert value(metrics, "loraop_workqueue_retries_total", kind="LoRAJob") == 1
    assert value(metrics, "loraop_reconcile_duration_seconds_bucket", kind="LoRAJob", le="0.025") == 4
    assert value(metrics, "loraop_workqueue_wait_seconds_count") == 4
    assert value(metrics, "loraop_workqueue_wait_seconds_bucket", le="30.0") == 0


_RESULTS = ("success", "error", "refused")


def test_the_queue_is_read_when_somebody_asks() -> None:
    now, metrics = [0.0], Metrics()
    queue: WorkQueue[Key] = WorkQueue(clock=lambda: now[0])
    metrics.watch_queue(lambda: queue.depth, queue.oldest_age)
    queue.add(KEY)
    now[0] = 3.0
    assert value(metrics, "loraop_workqueue_depth") == 1
    assert value(metrics, "loraop_workqueue_oldest_seconds") == 3


def test_jobs_are_counted_by_their_last_phase() -> None:
    metrics = Metrics()

    def jobs() -> dict[str, float | None]:
        return {each.value: value(metrics, "loraop_lorajobs", phase=each.value) for each in Phase}

    nothing = dict.fromkeys([each.value for each in Phase], 0)
    assert jobs() == nothing, "a phase without a job is 0, and not missing"
    for number, phase in ((1, Phase.PENDING), (2, Phase.RUNNING), (1, Phase.RUNNING), (1, Phase.RUNNING)):
        metrics.saw(job(number), phase)
    assert jobs() == nothing | {"Running": 2}
    metrics.saw(job(2), None)
    metrics.saw(job(3), None)
    assert jobs() == nothing | {"Running": 1}


def test_a_replica_that_does_not_lead_knows_of_no_job() -> None:
    metrics = Metrics()
    metrics.lead(True)
    metrics.saw(KEY, Phase.RUNNING)
    metrics.lead(False)
    assert value(metrics, "loraop_leader") == 0
    assert value(metrics, "loraop_lorajobs", phase="Running") == 0


@pytest.mark.parametrize(
    ("measure", "name", "labels", "expected"),
    [
        (Measure(Measured.TIME_TO_JOB, 0.2, "train"), "time_to_job_seconds_sum", {"stage": "train"}, 0.2),
        (Measure(Measured.TIME_TO_FIRST_STEP, 40), "time_to_first_step_seconds_sum", {}, 40),
        (Measure(Measured.QUEUE_WAIT, 40), "queue_wait_seconds_sum", {}, 40),
        (Measure(Measured.NODE_WAIT, 40), "node_wait_seconds_sum", {}, 40),
        (Measure(Measured.RUN, 900, "Failed"), "run_duration_seconds_sum", {"result": "Failed"}, 900),
        (Measure(Measured.FAILURE, 1, "BadData"), "run_failures_total", {"reason": "BadData"}, 1),
        (Measure(Measured.STALL, 1, "PodRefused"), "stalls_total", {"reason": "PodRefused"}, 1),
        (Measure(Measured.FAILED_ATTEMPT, 2), "failed_attempts_total", {}, 2),
        (Measure(Measured.DISRUPTION, 3), "disruptions_total", {}, 3),
        (Measure(Measured.ADAPTER, 5e6), "adapter_bytes_sum", {}, 5e6),
    ],
    ids=lambda each: each.what if isinstance(each, Measure) else "",
)
def test_measures_find_their_metric(measure: Measure, name: str, labels: dict[str, str], expected: float) -> None:
    metrics = Metrics()
    metrics.record([measure])
    assert value(metrics, f"loraop_{name}", **labels) == expected


def test_every_measure_has_a_metric() -> None:
    Metrics().record([Measure(each, 1, "label") for each in Measured])


def test_requests_and_polls_are_counted() -> None:
    metrics = Metrics()
    metrics.requested("patch", "jobs", 201, 0.03)
    metrics.requested("get", "lorajobs", 0, 30.0)
    metrics.polled(True)
    metrics.watch_pods(lambda: 7)
    assert value(metrics, "loraop_api_requests_total", verb="patch", resource="jobs", code="201") == 1
    assert value(metrics, "loraop_api_requests_total", verb="get", resource="lorajobs", code="0") == 1
    assert value(metrics, "loraop_api_request_duration_seconds_count", verb="patch") == 1
    assert value(metrics, "loraop_progress_polls_total", result="answered") == 1
    assert value(metrics, "loraop_progress_polls_total", result="failed") == 0
    assert value(metrics, "loraop_progress_pods") == 7


def test_answers_of_the_webhook_are_counted_and_none_is_a_zero() -> None:
    metrics = Metrics()
    metrics.admitted(Admission.INJECTED, 0.02)
    metrics.admitted(Admission.ERROR, 3.5)
    found = {each.value: value(metrics, "loraop_webhook_admissions_total", result=each) for each in Admission}
    assert found == {"injected": 1, "unchanged": 0, "refused": 0, "error": 1}
    assert value(metrics, "loraop_webhook_admission_duration_seconds_bucket", le="0.025") == 1
    assert value(metrics, "loraop_webhook_admission_duration_seconds_count") == 2


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", LORAJOBS.path(), ("list", "lorajobs")),
        ("GET", PODS.path("team-a"), ("list", "pods")),
        ("GET", JOBS.path("team-a", "support-bot-1-train"), ("get", "jobs")),
        ("POST", EVENTS.path("team-a"), ("create", "events")),
        ("PATCH", LORAJOBS.path("team-a", "support-bot") + "/status", ("patch", "lorajobs/status")),
        ("DELETE", JOBS.path("team-a", "support-bot-1-train"), ("delete", "jobs")),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/lora-system/leases/lora", ("update", "leases")),
        ("GET", PODS.path("team-a", "pod-1") + ":9400/proxy/progress", ("get", "pods/proxy")),
    ],
)
def test_a_request_is_named_without_names(method: str, path: str, expected: tuple[str, str]) -> None:
    assert describe(method, path) == expected


def fill(metrics: Metrics, jobs: int) -> None:
    for number in range(jobs):
        metrics.added(job(number))
        for phase in Phase:
            metrics.saw(job(number), phase)
        for reason in Reason:
            metrics.record([Measure(Measured.FAILURE, 1, reason), Measure(Measured.STALL, 1, reason)])
        metrics.record([Measure(Measured.RUN, number, "Succeeded"), Measure(Measured.TIME_TO_JOB, number, "train")])


def test_a_thousand_jobs_give_no_more_lines_than_one_and_none_names_a_job() -> None:
    one, many = Metrics(), Metrics()
    fill(one, 1)
    fill(many, 1000)
    pages = [generate_latest(each.registry).decode() for each in (one, many)]
    assert pages[0].count("\n") == pages[1].count("\n")
    assert "job-" not in pages[1]
    assert "team-" not in pages[1]


def test_the_page_explains_every_metric_and_no_other() -> None:
    metrics = Metrics()
    names = {_exposed(family.name, family.type) for family in metrics.registry.collect()}
    rows = re.findall(r"^\| `((?:loraop|process)_\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows)), "each once"
    assert set(rows) == names


def test_the_page_names_the_labels() -> None:
    metrics = Metrics()
    rows = dict(re.findall(r"^\| `(loraop_\w+)` \| \w+ \| ([^|]*) \|", PAGE.read_text(), re.MULTILINE))
    for collector in metrics.registry._collector_to_names:
        labels = getattr(collector, "_labelnames", ())
        for name in (each for each in metrics.registry._collector_to_names[collector] if each in rows):
            assert re.findall(r"`(\w+)`", rows[name]) == list(labels), name


def _exposed(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name


def test_they_are_served() -> None:
    metrics = Metrics()
    port = metrics.serve(0, "127.0.0.1")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    assert "loraop_build_info{version=" in text
    assert "process_resident_memory_bytes" in text
