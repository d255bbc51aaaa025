"""Reading what Kubernetes says: everything may be missing, and what is not ours is told apart."""

from typing import Any

import pytest

from lora_operator.domain.numbers import load_finite
from lora_operator.domain.observed import Ownership
from lora_operator.domain.reading import read_child, read_pod, read_status, read_work
from support.samples import lorajob
from support.world import UID, read_lorajob

JOB = read_lorajob(lorajob())


def owned(uid: str = UID, name: str = "support-bot", **meta: Any) -> dict[str, Any]:
    owner = {"kind": "LoRAJob", "name": name, "uid": uid, "controller": True}
    return {"kind": "Job", "metadata": {"name": "x", "uid": "job-uid", "ownerReferences": [owner]} | meta}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (owned(), Ownership.OURS),
        (owned(uid="older"), Ownership.LEFTOVER),
        (owned(deletionTimestamp="2026-01-01T00:00:00Z"), Ownership.GOING),
        (owned(uid="x", name="other"), Ownership.FOREIGN),
        ({"metadata": {"name": "x"}}, Ownership.FOREIGN),
    ],
)
def test_whose_an_object_is(document: dict[str, Any], expected: Ownership) -> None:
    assert read_child(document, JOB).ownership is expected


def test_an_empty_pod_is_a_pending_pod() -> None:
    pod = read_pod({"metadata": {"name": "p"}})
    assert (pod.phase, pod.node, pod.running, pod.end) == ("Pending", "", False, None)


def test_only_the_trainer_container_counts() -> None:
    ended = {"terminated": {"exitCode": 65, "message": "{}"}}
    status = {
        "phase": "Failed",
        "containerStatuses": [
            {"name": "sidecar", "state": {"terminated": {"exitCode": 1}}},
            {"name": "trainer", "state": ended},
        ],
    }
    pod = read_pod({"metadata": {"name": "p"}, "status": status})
    assert pod.end is not None
    assert pod.end.exit_code == 65


def test_pods_of_another_job_are_left_out_and_the_newest_comes_last() -> None:
    def pod(name: str, created: str, uid: str = "job-uid") -> dict[str, Any]:
        owner = {"kind": "Job", "name": "x", "uid": uid, "controller": True}
        return {"metadata": {"name": name, "creationTimestamp": created, "ownerReferences": [owner]}}

    pods = [
        pod("b", "2026-01-02T00:00:00Z"),
        pod("a", "2026-01-01T00:00:00Z"),
        pod("c", "2026-01-03T00:00:00Z", "other"),
    ]
    work = read_work(owned(), JOB, pods)
    assert [each.name for each in work.pods] == ["a", "b"]


def test_a_phase_of_a_newer_release_is_dropped() -> None:
    assert read_status({"phase": "Dreaming", "run": 2, "dreams": []}).run == 2


def test_numbers_that_json_does_not_have_are_left_out() -> None:
    assert load_finite('{"a": NaN, "b": [1.5, Infinity], "c": {"d": 1e999, "e": -Infinity}, "f": 1}') == {
        "b": [1.5],
        "c": {},
        "f": 1,
    }
    with pytest.raises(ValueError, match="nested"):
        load_finite("[" * 100_000)


def test_integers_that_no_status_can_hold_are_left_out() -> None:
    text = f'{{"a": {2**63}, "b": [{-(2**63) - 1}, {2**63 - 1}], "c": {"9" * 3000}}}'
    assert load_finite(text) == {"b": [2**63 - 1]}
