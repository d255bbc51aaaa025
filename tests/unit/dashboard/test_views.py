"""Objects as the page shows them."""

from typing import Any

import pytest

from browser import samples
from lora_operator.dashboard.adapter_views import adapter_detail, adapter_row
from lora_operator.dashboard.job_views import UNREADABLE, job_detail, job_row


def test_a_row_has_the_numbers_of_the_progress() -> None:
    row = job_row(samples.job("support-bot", status=samples.training(640)))
    losses = samples.curve(640)
    expected = {"namespace": "team-a", "name": "support-bot", "phase": "Running", "reason": "Training", "run": 2}
    expected |= {"step": 640, "totalSteps": 1200, "percent": 53.3, "loss": losses[-1]["loss"]}
    assert row | expected == row
    assert row["evalLoss"] == losses[-3]["evalLoss"]
    assert row["etaTime"]


def test_a_job_that_nobody_looked_at_is_pending_and_says_so() -> None:
    row = job_row(samples.job("new"))
    assert (row["phase"], row["message"]) == ("Pending", "The operator has not looked at this job yet.")


@pytest.mark.parametrize(
    ("status", "reason", "message", "hint"),
    [
        (
            samples.failed(),
            "BadData",
            "s3://datasets/orders.jsonl, row 4127: the field completion is missing",
            "Write the field, or name its column in spec.dataset.train.columns",
        ),
        (samples.waiting("Queued", "Queued", "no quota", "Admitted"), "Queued", "no quota", ""),
        (samples.training(640), "Training", "Step 640 of 1200; the training pod runs on node gpu-3", ""),
        (samples.succeeded(), "AdapterPublished", "The adapter is published", ""),
    ],
)
def test_the_explanation_is_the_failure_or_the_condition_of_the_phase(
    status: dict[str, Any], reason: str, message: str, hint: str
) -> None:
    told = job_detail(samples.job("any", status=status))["explanation"]
    assert (told["reason"], told["message"], told["hint"]) == (reason, message, hint)


def test_the_job_page_has_all_that_was_found() -> None:
    shown = job_detail(samples.job("support-bot", status=samples.succeeded()))
    assert shown["curve"] == samples.curve(1200)
    assert shown["resolved"]["memoryEstimate"]["total"] == 4_123_456_789
    assert [each["run"] for each in shown["history"]] == [1]
    assert shown["adapter"]["digest"] == samples.DIGEST
    assert [each["type"] for each in shown["conditions"]] == ["PreflightPassed", "Succeeded"]


@pytest.mark.parametrize(
    ("adapter", "phase", "name"),
    [
        ({}, "Succeeded", "support-bot"),
        ({"name": "bot"}, "Succeeded", "bot"),
        ({"create": False}, "Succeeded", None),
        ({}, "Running", None),
    ],
)
def test_a_link_leads_to_the_adapter_that_a_job_has_made(adapter: dict[str, Any], phase: str, name: str | None) -> None:
    status = samples.succeeded() | {"phase": phase}
    assert job_detail(samples.job("support-bot", status=status, adapter=adapter))["adapterName"] == name


def test_a_spec_that_the_status_does_not_speak_of_yet_is_told() -> None:
    document = samples.job("support-bot", status=samples.training())
    assert job_detail(document)["outdated"] is False
    document["metadata"]["generation"] = 2
    assert job_detail(document)["outdated"] is True


@pytest.mark.parametrize("status", [{"phase": "Dreaming"}, {"progress": "fast"}, {"conditions": [{"type": "Running"}]}])
def test_a_status_of_another_version_leaves_the_job_in_the_list(status: dict[str, Any]) -> None:
    document = samples.job("later", status=status)
    assert job_row(document) | {"name": "later", "phase": "Unknown", "message": UNREADABLE} == job_row(document)
    assert job_detail(document)["explanation"]["message"] == UNREADABLE


@pytest.mark.parametrize(
    ("conditions", "phase", "reason"),
    [
        ([], "Waiting", ""),
        ([("Ready", "False", "NoPods")], "Waiting", "NoPods"),
        ([("Ready", "True", "Served")], "Ready", "Served"),
        ([("Ready", "False", "RollingOut"), ("Progressing", "True", "Canary")], "Progressing", "Canary"),
        ([("Ready", "True", "Served"), ("Degraded", "True", "RolledBack")], "Degraded", "RolledBack"),
    ],
)
def test_one_word_sums_the_conditions_of_an_adapter_up(
    conditions: list[tuple[str, str, str]], phase: str, reason: str
) -> None:
    status = {"conditions": [samples.condition(*each, "why") for each in conditions]}
    row = adapter_row(samples.adapter("bot", status=status))
    assert (row["phase"], row["reason"]) == (phase, reason)


def test_the_adapter_page_has_versions_and_pods() -> None:
    shown = adapter_detail(samples.adapter("support-bot", status=samples.rolling()))
    assert [each["state"] for each in shown["versions"]] == ["Serving", "Superseded", "Rejected"]
    assert next((each["name"], each["state"]) for each in shown["pods"]) == ("chat-7d9f6b5c4-zz91q", "Downloading")
    assert (shown["readyPods"], shown["desiredPods"], shown["stage"], shown["job"]) == (2, 3, "Rolling", "support-bot")


def test_an_adapter_status_of_another_version_leaves_it_in_the_list() -> None:
    document = samples.adapter("later", status={"pods": "many"})
    assert adapter_row(document)["message"] == UNREADABLE
    assert adapter_detail(document)["name"] == "later"
