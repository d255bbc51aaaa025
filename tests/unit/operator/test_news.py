"""Which watch events cost a pass: everything that a pass would read, and nothing else."""

from copy import deepcopy
from typing import Any

import pytest

from lora_operator.domain.reading import read_pod
from lora_operator.reconcile.news import News, job_facts, own_facts, pod_facts
from support.samples import lorajob

POD: dict[str, Any] = {
    "metadata": {
        "name": "p",
        "uid": "1",
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "resourceVersion": "7",
        "managedFields": [{"time": "2026-01-02T03:04:05Z"}],
        "labels": {"a": "b", "batch.kubernetes.io/job-completion-index": "0"},
        "annotations": {"batch.kubernetes.io/job-completion-index": "0"},
    },
    "spec": {"nodeName": "node-1", "containers": [{"name": "trainer", "image": "a"}]},
    "status": {
        "phase": "Running",
        "reason": "",
        "message": "",
        "podIP": "10.0.0.1",
        "startTime": "2026-01-02T03:04:05Z",
        "conditions": [
            {"type": "PodScheduled", "status": "True", "reason": "", "message": "", "lastProbeTime": None},
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"},
        ],
        "containerStatuses": [{"name": "trainer", "ready": True, "state": {"running": {"startedAt": "t"}}}],
    },
}
JOB: dict[str, Any] = {
    "metadata": {"name": "j", "uid": "2", "namespace": "n", "labels": {"a": "b"}, "resourceVersion": "7"},
    "spec": {"backoffLimit": 3, "suspend": False, "parallelism": 1},
    "status": {"active": 1, "ready": 0, "startTime": "t", "uncountedTerminatedPods": {}},
}


def told(facts: Any, before: dict[str, Any], *changes: dict[str, Any]) -> list[bool]:
    """Return for each change whether it is news after the one before."""
    news = News()
    assert news.has({"type": "ADDED", "object": before}, facts), "the first sight"
    return [news.has({"type": "MODIFIED", "object": _merged(before, change)}, facts) for change in changes]


def _merged(document: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = deepcopy(document)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def own(**metadata: Any) -> dict[str, Any]:
    meta = {"uid": "1", "generation": 1, "resourceVersion": "7", "namespace": "n"} | metadata
    return lorajob() | {"metadata": lorajob()["metadata"] | meta}


@pytest.mark.parametrize(
    ("change", "news"),
    [
        ({"status": {"phase": "Running"}, "metadata": {"resourceVersion": "8"}}, False),
        ({"metadata": {"managedFields": [{"manager": "lora-operator"}]}}, False),
        ({"metadata": {"generation": 2}}, True),
        ({"metadata": {"deletionTimestamp": "2026-01-02T03:04:05Z"}}, True),
        ({"metadata": {"labels": {"team": "a"}}}, True),
        ({"metadata": {"annotations": {"restart": "1"}}}, True),
        ({"metadata": {"finalizers": ["x/y"]}}, True),
    ],
)
def test_our_own_status_write_wakes_nobody(change: dict[str, Any], news: bool) -> None:
    assert told(own_facts, own(), change) == [news]


@pytest.mark.parametrize(
    ("change", "news"),
    [
        ({"metadata": {"resourceVersion": "8"}}, False),
        ({"status": {"startTime": "later"}}, False),
        (
            {
                "status": {
                    "containerStatuses": [{"name": "trainer", "ready": False, "state": {"running": {"startedAt": "t"}}}]
                }
            },
            False,
        ),
        ({"status": {"containerStatuses": [{"name": "trainer", "state": {"terminated": {"exitCode": 1}}}]}}, True),
        ({"status": {"phase": "Failed"}}, True),
        ({"status": {"podIP": "10.0.0.2"}}, True),
        ({"status": {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "Evicted"}]}}, True),
        ({"spec": {"nodeName": "node-2"}}, True),
        ({"metadata": {"deletionTimestamp": "2026-01-02T03:04:05Z"}}, True),
    ],
)
def test_a_pod_is_news_when_a_pass_would_read_something_else(change: dict[str, Any], news: bool) -> None:
    assert told(pod_facts, POD, change) == [news]


@pytest.mark.parametrize(
    ("change", "news"),
    [
        ({"status": {"active": 0, "ready": 1, "uncountedTerminatedPods": {"succeeded": ["u"]}}}, False),
        ({"status": {"failed": 1}}, True),
        ({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}, True),
        ({"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}}, True),
        ({"metadata": {"deletionTimestamp": "2026-01-02T03:04:05Z"}}, True),
        ({"metadata": {"ownerReferences": [{"uid": "3"}]}}, True),
    ],
)
def test_a_job_is_news_when_a_pass_would_read_something_else(change: dict[str, Any], news: bool) -> None:
    assert told(job_facts, JOB, change) == [news]


def test_whatever_the_reader_reads_of_a_pod_is_news() -> None:
    """Change each value of a pod in turn: where the reader sees a difference, so do the news."""
    seen = 0
    for path in _paths(POD):
        changed = _replaced(POD, path)
        if read_pod(changed) != read_pod(POD):
            seen += 1
            assert told(pod_facts, POD, changed) == [True], path
    assert seen > 5


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [found for key, each in value.items() for found in _paths(each, (*path, key))]
    if isinstance(value, list):
        return [found for index, each in enumerate(value) for found in _paths(each, (*path, index))]
    return [path] if isinstance(value, str) else []


def _replaced(document: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    changed = deepcopy(document)
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = "9"
    return changed


def test_what_is_deleted_is_always_news_and_is_forgotten() -> None:
    news = News()
    assert news.has({"type": "ADDED", "object": POD}, pod_facts)
    assert news.has({"type": "DELETED", "object": POD}, pod_facts)
    assert len(news) == 0


@pytest.mark.parametrize("kind", [None, "ADDED", "MODIFIED"])
def test_what_a_pass_has_read_is_no_news_whether_it_is_listed_or_watched(kind: str | None) -> None:
    news = News()
    news.read(POD, pod_facts)
    assert not news.has({"type": kind, "object": POD}, pod_facts)
    later = _merged(POD, {"status": {"phase": "Failed"}})
    assert news.has({"type": kind, "object": later}, pod_facts)


def test_an_event_of_before_what_a_pass_has_read_costs_a_pass_and_so_does_the_next() -> None:
    news, later = News(), _merged(POD, {"status": {"phase": "Failed"}})
    news.read(later, pod_facts)
    assert [news.has({"type": "MODIFIED", "object": each}, pod_facts) for each in (POD, later)] == [True, True]


def test_after_forgetting_each_object_is_news_once() -> None:
    news = News()
    news.has({"type": "ADDED", "object": POD}, pod_facts)
    news.forget()
    assert [news.has({"type": "MODIFIED", "object": POD}, pod_facts) for _ in range(2)] == [True, False]
