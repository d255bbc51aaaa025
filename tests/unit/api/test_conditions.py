"""Conditions keep the time since when they hold."""

from datetime import UTC, datetime

from lora_api.conditions import Condition, find_condition, is_true, set_condition

EARLY = datetime(2026, 1, 1, tzinfo=UTC)
LATE = datetime(2026, 1, 2, tzinfo=UTC)


def running(status: str, time: datetime, reason: str = "Training") -> Condition:
    return Condition.model_validate(
        {"type": "Running", "status": status, "observedGeneration": 1, "lastTransitionTime": time, "reason": reason}
    )


def test_a_new_condition_is_added() -> None:
    assert set_condition([], running("True", EARLY)) == (running("True", EARLY),)


def test_the_same_status_keeps_its_time_and_takes_the_new_reason() -> None:
    (kept,) = set_condition([running("True", EARLY)], running("True", LATE, reason="Retrying"))
    assert (kept.last_transition_time, kept.reason) == (EARLY, "Retrying")


def test_another_status_takes_the_new_time() -> None:
    (changed,) = set_condition([running("True", EARLY)], running("False", LATE))
    assert changed.last_transition_time == LATE


def test_absent_is_not_true() -> None:
    assert not is_true([], "Running")
    assert find_condition([], "Running") is None
    assert not is_true([running("Unknown", EARLY)], "Running")
