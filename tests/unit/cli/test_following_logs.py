"""`logs -f`: from pod to pod, and on after a connection that broke, without a line lost or told twice."""

from collections.abc import Iterator
from typing import Any

from lora_cli.cluster.connection import LogNotReadyError
from lora_cli.cluster.logs import follow_pods, pod_lines
from lora_cli.commands.logs import of_stage

Line = str | None
BROKEN: Line = None
"""Where the connection breaks."""


def stamped(second: int, text: str) -> str:
    return f"2026-01-02T03:04:{second:02d}.000000000Z {text}"


def pod(name: str, phase: str = "Running", created: str = "1") -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "creationTimestamp": created}, "status": {"phase": phase}}


class Kubelet:
    """Answers each request for a pod's log with the next of its streams."""

    def __init__(self, **streams: list[list[Line]]) -> None:
        self.streams, self.asked = streams, []

    def read(self, pod: dict[str, Any], container: str, *, follow: bool = False, **query: str) -> Iterator[str]:
        name = pod["metadata"]["name"]
        self.asked.append((name, follow, query.get("sinceTime", "")))
        for line in self.streams[name].pop(0):
            if line is BROKEN:
                raise LogNotReadyError(1, f"the log of pod {name} broke off")
            yield line


def follow(kubelet: Kubelet, *passes: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Return lines and remarks, with the pods of each pass; the run has ended in the last one."""
    left, said = list(passes), []
    lines = follow_pods(
        lambda: left.pop(0), kubelet.read, lambda: len(left) > 1, lambda: None, said.append
    )  # fmt: skip
    return list(lines), said


def test_the_pod_of_the_next_attempt_follows_the_first() -> None:
    kubelet = Kubelet(a=[[stamped(1, "one")]], b=[[stamped(2, "two")]])
    first, second = pod("a", "Failed"), pod("b", "Succeeded", created="2")
    lines, said = follow(kubelet, [first], [second, first])
    assert (lines, said) == (["one", "two"], ["pod a:", "pod b:"])
    assert len(kubelet.asked) == 2  # a log that is whole is not asked for again


def test_after_a_break_it_goes_on_where_it_was() -> None:
    kubelet = Kubelet(a=[[stamped(1, "one"), stamped(2, "two"), BROKEN], [stamped(2, "two"), stamped(3, "three")]])
    lines, _ = follow(kubelet, [pod("a")], [pod("a", "Succeeded")])
    assert lines == ["one", "two", "three"]
    assert kubelet.asked[1] == ("a", False, "2026-01-02T03:04:02.000000000Z")


def test_lines_of_one_moment_are_all_shown() -> None:
    kubelet = Kubelet(a=[[stamped(1, "one"), stamped(1, "two")]])
    assert follow(kubelet, [pod("a", "Succeeded")])[0] == ["one", "two"]


def test_a_container_that_has_not_started_is_waited_for_and_told_once() -> None:
    kubelet = Kubelet(a=[[BROKEN], [BROKEN], [stamped(1, "one")]])
    lines, said = follow(kubelet, [pod("a", "Pending")], [pod("a", "Pending")], [pod("a", "Succeeded")])
    assert lines == ["one"]
    assert said == ["pod a:", "the log of pod a broke off"]


def test_without_following_a_pod_without_a_log_does_not_hide_the_others() -> None:
    said: list[str] = []
    kubelet = Kubelet(a=[[BROKEN]], b=[["two"]])
    assert list(pod_lines([pod("b", created="2"), pod("a")], kubelet.read, said.append)) == ["two"]
    assert said == ["the log of pod a broke off"]


def test_the_stored_log_is_told_apart_by_the_commands_that_wrote_it() -> None:
    def started(command: str) -> list[str]:
        return ['{"message": "progress served"}', f'{{"message": "started", "command": "{command}"}}']

    lines = [*started("preflight"), "p", *started("train"), "t", *started("train"), "u"]
    assert list(of_stage(lines, "preflight")) == [*started("preflight"), "p"]
    assert list(of_stage(lines, "train")) == [*started("train"), "t", *started("train"), "u"]
    assert list(of_stage(lines, None)) == lines
