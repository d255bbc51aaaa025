"""What a pass is worth in numbers: each thing counted once in a run."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lora_api.conditions import Condition, ConditionStatus
from lora_api.lorajob_status import Attempts, LoRAJobStatus
from lora_api.loss_curve import CurvePoint
from lora_api.names import STAGE_LABEL
from lora_api.reasons import ConditionType, Reason
from lora_operator.domain.measures import Measure, Measured, measures
from lora_operator.domain.observed import ObservedJob
from support.samples import ADAPTER

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return CREATED + timedelta(seconds=seconds)


def condition(kind: ConditionType, status: ConditionStatus, reason: Reason, seconds: float = 0) -> Condition:
    return Condition(type=kind, status=status, observed_generation=1, last_transition_time=at(seconds), reason=reason)


def status(*conditions: Condition, **fields: Any) -> LoRAJobStatus:
    defaults: dict[str, Any] = {"run": 1, "start_time": at(1)}
    return LoRAJobStatus(**(defaults | fields), conditions=list(conditions))


def made(stage: str) -> dict[str, Any]:
    return {"kind": "Job", "metadata": {"name": f"support-bot-1-{stage}", "labels": {STAGE_LABEL: stage}}}


def found(
    before: LoRAJobStatus, after: LoRAJobStatus, *children: dict[str, Any], seconds: float = 10, created: bool = True
) -> list[Measure]:
    job = ObservedJob("team-a", "support-bot", "uid", 1, None, created=CREATED if created else None)
    return measures(before, after, job, at(seconds), children)


ACCEPTED = condition(ConditionType.PREFLIGHT_PASSED, "Unknown", Reason.ACCEPTED)
CHECKING = condition(ConditionType.PREFLIGHT_PASSED, "Unknown", Reason.PREFLIGHT_RUNNING)
PASSED = condition(ConditionType.PREFLIGHT_PASSED, "True", Reason.PREFLIGHT_SUCCEEDED)
SUCCEEDED = condition(ConditionType.SUCCEEDED, "True", Reason.ADAPTER_PUBLISHED)
BAD_DATA = condition(ConditionType.FAILED, "True", Reason.BAD_DATA)
REOPENED = condition(ConditionType.FAILED, "False", Reason.RESUMED)
CURVE = [CurvePoint(step=1, loss=2.0)]


def queued(value: ConditionStatus) -> Condition:
    reason = Reason.ADMITTED if value == "True" else Reason.QUEUED
    return condition(ConditionType.ADMITTED, value, reason, 4)


def scheduled(value: ConditionStatus) -> Condition:
    reason = Reason.POD_SCHEDULED if value == "True" else Reason.WAITING_FOR_POD
    return condition(ConditionType.SCHEDULED, value, reason, 7)


def stalled(value: ConditionStatus, reason: Reason) -> Condition:
    return condition(ConditionType.STALLED, value, reason)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(status(PASSED), status(PASSED), [], id="nothing changed"),
        pytest.param(
            status(), status(loss_curve=CURVE), [Measure(Measured.TIME_TO_FIRST_STEP, 10)], id="the first step"
        ),
        pytest.param(
            status(loss_curve=CURVE),
            status(loss_curve=[*CURVE, CurvePoint(step=2, loss=1.9)]),
            [],
            id="a later step, also of another attempt",
        ),
        pytest.param(
            status(),
            status(loss_curve=[*CURVE, CurvePoint(step=2, loss=1.9)]),
            [],
            id="a curve of last words: nobody knows when it began",
        ),
        pytest.param(
            status(queued("False")), status(queued("True")), [Measure(Measured.QUEUE_WAIT, 6)], id="Kueue admits"
        ),
        pytest.param(status(), status(queued("True")), [], id="admitted before anybody looked"),
        pytest.param(
            status(scheduled("False")), status(scheduled("True")), [Measure(Measured.NODE_WAIT, 3)], id="a node"
        ),
        pytest.param(status(scheduled("True")), status(scheduled("False")), [], id="no node any more"),
        pytest.param(
            status(attempts=Attempts(failures=1)),
            status(attempts=Attempts(failures=2, disruptions=2)),
            [Measure(Measured.FAILED_ATTEMPT, 1), Measure(Measured.DISRUPTION, 2)],
            id="attempts",
        ),
        pytest.param(
            status(),
            status(stalled("True", Reason.SECRET_NOT_FOUND)),
            [Measure(Measured.STALL, 1, "SecretNotFound")],
            id="stalled",
        ),
        pytest.param(
            status(stalled("True", Reason.SECRET_NOT_FOUND)),
            status(stalled("True", Reason.IMAGE_PULL_FAILED)),
            [Measure(Measured.STALL, 1, "ImagePullFailed")],
            id="stalled for another reason",
        ),
        pytest.param(
            status(stalled("True", Reason.SECRET_NOT_FOUND)),
            status(stalled("False", Reason.ACCEPTED)),
            [],
            id="not stalled any more",
        ),
        pytest.param(
            status(),
            status(SUCCEEDED, adapter=ADAPTER, completion_time=at(9)),
            [Measure(Measured.RUN, 8, "Succeeded"), Measure(Measured.ADAPTER, ADAPTER.bytes)],
            id="success",
        ),
        pytest.param(
            status(SUCCEEDED, adapter=ADAPTER), status(SUCCEEDED, adapter=ADAPTER), [], id="success is told once"
        ),
        pytest.param(
            status(),
            status(BAD_DATA, completion_time=at(9)),
            [Measure(Measured.RUN, 8, "Failed"), Measure(Measured.FAILURE, 1, "BadData")],
            id="failure",
        ),
        pytest.param(
            status(attempts=Attempts(failures=3)),
            status(run=2, start_time=at(10), attempts=Attempts()),
            [Measure(Measured.RUN, 9, "Superseded")],
            id="another run takes over",
        ),
        pytest.param(status(SUCCEEDED), status(run=2, start_time=at(10)), [], id="another run after an end"),
    ],
)
def test_table(before: LoRAJobStatus, after: LoRAJobStatus, expected: list[Measure]) -> None:
    assert found(before, after) == expected


@pytest.mark.parametrize(
    ("before", "stage", "expected"),
    [
        pytest.param(LoRAJobStatus(), "preflight", [("preflight", 10)], id="the very first pass"),
        pytest.param(status(ACCEPTED), "preflight", [("preflight", 10)], id="accepted before"),
        pytest.param(status(CHECKING), "preflight", [], id="the preflight is made again"),
        pytest.param(status(PASSED), "train", [("train", 10)], id="the training"),
        pytest.param(status(PASSED, attempts=Attempts(job="uid")), "train", [], id="the training is made again"),
        pytest.param(status(PASSED, REOPENED), "train", [], id="a failed run goes on with a corrected spec"),
        pytest.param(status(SUCCEEDED), "cleanup", [], id="a Job of no interest"),
    ],
)
def test_time_from_apply_to_the_first_job_of_a_stage(
    before: LoRAJobStatus, stage: str, expected: list[tuple[str, float]]
) -> None:
    after = before.model_copy(update={"run": 1, "start_time": at(1)})
    others = [{"kind": "ConfigMap", "metadata": {"name": "c"}}, {"kind": "Job", "metadata": {"name": "no-labels"}}]
    told = found(before, after, *others, made(stage))
    assert [(each.label, each.value) for each in told if each.what is Measured.TIME_TO_JOB] == expected


def test_a_later_run_counts_from_its_acceptance() -> None:
    later = status(PASSED, run=2, start_time=at(5))
    assert found(later, later, made("train")) == [Measure(Measured.TIME_TO_JOB, 5, "train")]


def test_a_clock_that_is_behind_the_api_server_gives_no_negative_time() -> None:
    assert found(status(), status(loss_curve=CURVE), seconds=-3) == [Measure(Measured.TIME_TO_FIRST_STEP, 0)]


def test_a_reason_that_nobody_knows_becomes_one_that_is() -> None:
    made_up = BAD_DATA.model_copy(update={"reason": "Foo123"})
    told = found(status(), status(made_up))
    assert Measure(Measured.FAILURE, 1, "UnknownFailure") in told
