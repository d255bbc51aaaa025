"""Filters and pages of a list."""

from typing import Any

import pytest

from lora_operator.dashboard.query import PAGE_ROWS, Query, QueryError, check_name, read_query, select

ROWS: list[dict[str, Any]] = [
    {"namespace": "team-a", "name": "bot", "phase": "Running", "base": "hf://o/Llama", "created": "2026-01-03"},
    {"namespace": "team-a", "name": "notes", "phase": "Failed", "reason": "BadData", "created": "2026-01-01"},
    {"namespace": "team-b", "name": "bot", "phase": "Running", "base": "hf://o/qwen", "created": "2026-01-02"},
    {"namespace": "team-b", "name": "old", "phase": "Succeeded", "created": None},
]


def found(**filters: Any) -> list[str]:
    return [f"{each['namespace']}/{each['name']}" for each in select(ROWS, Query(**filters))["rows"]]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["team-a/bot", "team-b/bot", "team-a/notes", "team-b/old"]),
        ({"namespace": "team-a"}, ["team-a/bot", "team-a/notes"]),
        ({"namespace": "team"}, []),
        ({"phase": "Running"}, ["team-a/bot", "team-b/bot"]),
        ({"text": "BOT"}, ["team-a/bot", "team-b/bot"]),
        ({"text": "bot llama"}, ["team-a/bot"]),
        ({"text": "baddata"}, ["team-a/notes"]),
        ({"text": "team-b", "phase": "Succeeded"}, ["team-b/old"]),
        ({"text": ".*"}, []),
    ],
)
def test_filters(filters: dict[str, Any], expected: list[str]) -> None:
    assert found(**filters) == expected


def test_the_counts_say_what_choosing_a_phase_would_give() -> None:
    answer = select(ROWS, Query(namespace="team-a", phase="Running"))
    assert answer["phases"] == {"Failed": 1, "Running": 1}
    assert answer["namespaces"] == ["team-a", "team-b"]
    assert answer["total"] == 1


def test_pages() -> None:
    rows = [{"namespace": "a", "name": f"{number:03}", "phase": "Running"} for number in range(PAGE_ROWS * 2 + 1)]
    assert [len(select(rows, Query(page=page))["rows"]) for page in (1, 2, 3)] == [PAGE_ROWS, PAGE_ROWS, 1]
    beyond = select(rows, Query(page=9))
    assert (beyond["page"], beyond["pages"], len(beyond["rows"])) == (3, 3, 1)
    assert select([], Query())["pages"] == 1


@pytest.mark.parametrize(
    "parameters",
    [
        {"namespace": "../kube-system"},
        {"namespace": "A"},
        {"namespace": "a" * 254},
        {"phase": "<b>"},
        {"page": "0"},
        {"page": "-1"},
        {"page": "1e3"},
        {"page": "9999999"},
    ],
)
def test_a_question_that_makes_no_sense_is_refused(parameters: dict[str, str]) -> None:
    with pytest.raises(QueryError, match=next(iter(parameters))):
        read_query(parameters)


def test_a_question_is_read() -> None:
    parameters = {"namespace": " team-a ", "phase": "Running", "text": "x" * 999, "page": "2", "other": "?"}
    assert read_query(parameters) == Query("team-a", "Running", "x" * 200, 2)
    assert read_query({}) == Query()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a%2fb", "-a", "a-", "a\n", "ä"])
def test_names_that_kubernetes_cannot_have(name: str) -> None:
    with pytest.raises(QueryError):
        check_name(name, "name")
