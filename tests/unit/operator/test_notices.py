"""What is remembered of pods that the Job controller could not make."""

from lora_operator.cluster.notices import Notices
from lora_operator.domain.children import job_of_work


def event(text: str, time: str | None, uid: str = "u") -> dict[str, object]:
    return {"involvedObject": {"uid": uid}, "message": text, "lastTimestamp": time}


def test_the_newest_counts_whatever_comes_first() -> None:
    notices = Notices()
    notices.hear(event("new", "2026-01-02T00:00:00Z"))
    notices.hear(event("old", "2026-01-01T00:00:00Z"))
    assert notices.newest("u") == "new"
    assert notices.newest("u", since="2026-01-03T00:00:00Z") == "", "a pod has come since"
    assert notices.newest("another") == ""


def test_an_event_that_is_counted_on_replaces_what_it_said() -> None:
    notices = Notices()
    notices.hear(event("quota 1", "2026-01-02T00:00:00Z"))
    notices.hear(event("quota 2", "2026-01-02T00:00:09Z"))
    assert notices.newest("u") == "quota 2"


def test_events_without_a_time_or_an_object_do_no_harm() -> None:
    notices = Notices()
    notices.hear({"message": "x"})
    notices.hear(event("odd", None))
    assert notices.newest("u") == "odd"


def test_it_is_bounded() -> None:
    notices = Notices()
    for number in range(10_050):
        notices.hear(event("x", "2026-01-02T00:00:00Z", uid=str(number)))
    assert (notices.newest("0"), notices.newest("10049")) == ("", "x")


def test_the_job_behind_a_name() -> None:
    names = ("support-bot-1-train", "a-12-preflight", "b-1-cleanup", "nightly-2-backup", "train", "", "x-y-train")
    assert [job_of_work(name) for name in names] == ["support-bot", "a", "b", None, None, None, None]
