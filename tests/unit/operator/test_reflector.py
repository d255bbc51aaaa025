"""List and watch: what is heard, in which order, and through every way in which a watch can end."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import aiohttp
import pytest

from lora_operator.cluster.bodies import read_lines
from lora_operator.cluster.client import PODS, ApiError, Page, WatchEvent
from lora_operator.cluster.reflector import Reflector
from lora_operator.cluster.requests import describe

Document = dict[str, Any]
Script = list[Any]


def pod(name: str, version: int, uid: str = "") -> Document:
    meta = {"namespace": "team-a", "name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": meta}


def event(kind: str, name: str, version: int, uid: str = "") -> WatchEvent:
    return WatchEvent(kind, pod(name, version, uid))


OPENED = WatchEvent("BOOKMARK", {"metadata": {}})


class End(Exception):  # noqa: N818 - no error: the script is over
    """Ends the reflector."""


class Clock:
    """A time that passes only when a script says so, or somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Server:
    """Answers lists and watches as a script says. A number in a watch is seconds that pass."""

    def __init__(self, clock: Clock, lists: Script, watches: Script) -> None:
        self._clock = clock
        self._lists = lists
        self._watches = watches
        self.asked: list[str] = []
        self.seconds: list[int] = []

    async def pages(self, resource: Any, namespace: str | None, *, labels: str, limit: int) -> AsyncIterator[Page]:
        self.asked.append("list")
        for each in _next(self._lists):
            if isinstance(each, Exception):
                raise each
            yield each

    async def watch(
        self, resource: Any, namespace: str | None, *, version: str, labels: str, seconds: int, silence: float
    ) -> AsyncGenerator[WatchEvent, None]:
        self.asked.append(f"watch {version}")
        self.seconds.append(seconds)
        for each in _next(self._watches):
            if isinstance(each, Exception):
                raise each
            if isinstance(each, float):
                self._clock.now += each
            else:
                yield each


def _next(script: Script) -> Script:
    if not script:
        raise End
    return list(script.pop(0))


class Heard:
    """What a consumer hears."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def listed(self, document: Document) -> None:
        self.words.append(f"listed {document['metadata']['name']}")

    def changed(self, document: Document) -> None:
        self.words.append(f"changed {document['metadata']['name']}")

    def gone(self, namespace: str, name: str, uid: str) -> None:
        self.words.append(f"gone {name} {uid}")


def follow(lists: Script, watches: Script) -> tuple[Server, Heard, Clock, Reflector]:
    clock, heard = Clock(), Heard()
    server = Server(clock, lists, watches)

    async def scenario() -> Reflector:
        reflector = Reflector(
            server,
            PODS,
            None,
            heard,
            clock=clock,
            chance=lambda: 0.5,
            sleep=clock.sleep,  # type: ignore[arg-type]
        )
        with pytest.raises(End):
            await reflector.run()
        return reflector

    return server, heard, clock, asyncio.run(scenario())


def test_a_list_and_then_what_happens_from_there() -> None:
    server, heard, clock, reflector = follow(
        [[Page([pod("a", 1), pod("b", 2)], "10"), Page([pod("c", 3)], "10")]],
        [
            [OPENED, event("MODIFIED", "a", 11), event("DELETED", "b", 12), event("ADDED", "d", 13), 600.0],
            [OPENED, WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "20"}}), 600.0],
        ],
    )
    assert heard.words == ["listed a", "listed b", "listed c", "changed a", "gone b uid-b", "changed d"]
    assert server.asked == ["list", "watch 10", "watch 13", "watch 20"], "a bookmark moves it on"
    assert server.seconds == [600, 600, 600]
    assert clock.slept == [], "the server ends a watch in its time, and the next one follows at once"
    assert reflector.synced.is_set()


def test_a_version_that_is_too_old_means_another_list_which_tells_who_vanished() -> None:
    server, heard, _, _ = follow(
        [[Page([pod("a", 1), pod("b", 2), pod("c", 3)], "10")], [Page([pod("a", 1), pod("b", 30, "other")], "30")]],
        [[OPENED, 10.0, ApiError(410, "too old")]],
    )
    assert server.asked == ["list", "watch 10", "list", "watch 30"]
    assert heard.words[3:] == ["listed a", "gone b uid-b", "listed b", "gone c uid-c"]


def test_a_pod_of_the_same_name_is_another_pod() -> None:
    _, heard, _, _ = follow([[Page([pod("a", 1)], "10")]], [[OPENED, event("MODIFIED", "a", 11, "other"), 10.0]])
    assert heard.words == ["listed a", "gone a uid-a", "changed a"]


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ClientConnectionError(),
        TimeoutError(),
        OSError(),
        ValueError("no JSON"),
        ApiError(500, ""),
        ApiError(429, ""),
    ],
    ids=str,
)
def test_a_watch_that_breaks_goes_on_where_it_was(error: Exception) -> None:
    server, _, clock, _ = follow(
        [[Page([], "10")]], [[OPENED, event("ADDED", "a", 11), 60.0, error], [OPENED, 60.0, error], [OPENED, 60.0]]
    )
    assert server.asked == ["list", "watch 10", "watch 11", "watch 11", "watch 11"]
    assert clock.slept == [0.1875, 0.1875], "each of them had been open for a while"


def test_a_list_that_breaks_half_way_removes_nobody() -> None:
    server, heard, _, _ = follow(
        [
            [Page([pod("a", 1), pod("b", 2)], "10")],
            [Page([pod("a", 1)], "30"), aiohttp.ClientPayloadError()],
            [Page([pod("b", 2)], "40")],
        ],
        [[OPENED, ApiError(410, "too old")]],
    )
    assert heard.words == ["listed a", "listed b", "listed a", "listed b", "gone a uid-a"]
    assert server.asked == ["list", "watch 10", "list", "list", "watch 40"]


def test_an_api_server_that_is_away_is_asked_at_most_every_five_seconds_and_counts_as_blind() -> None:
    down = aiohttp.ClientConnectionError()
    server, _, clock, reflector = follow([[down]] * 10 + [[Page([], "10")]], [[OPENED, 30.0]])
    assert server.asked == ["list"] * 11 + ["watch 10", "watch 10"]
    assert clock.slept == [0.1875, 0.375, 0.75, 1.5, 3.0, 3.75, 3.75, 3.75, 3.75, 3.75]
    assert reflector.blind_seconds == 0.0


def test_how_long_it_has_been_blind() -> None:
    clock = Clock()
    server = Server(clock, [[aiohttp.ClientConnectionError()]] * 5, [])

    async def scenario() -> Reflector:
        reflector = Reflector(server, PODS, None, Heard(), clock=clock, chance=lambda: 1.0, sleep=clock.sleep)  # type: ignore[arg-type]
        with pytest.raises(End):
            await reflector.run()
        return reflector

    reflector = asyncio.run(scenario())
    assert reflector.blind_seconds == sum(clock.slept) > 0
    assert not reflector.synced.is_set()


def test_a_watch_that_ends_at_once_again_and_again_keeps_nobody_busy() -> None:
    _, _, clock, _ = follow([[Page([], "10")]], [[OPENED]] * 6)
    assert clock.slept == [0.1875, 0.375, 0.75, 1.5, 3.0, 3.75]


def test_what_the_consumer_raises_is_no_failure_of_the_watch() -> None:
    class Broken(Heard):
        def changed(self, document: Document) -> None:
            raise RuntimeError("a defect")

    async def scenario() -> None:
        server = Server(Clock(), [[Page([], "1")]], [[OPENED, event("ADDED", "a", 2)]])
        await Reflector(server, PODS, None, Broken()).run()  # type: ignore[arg-type]

    with pytest.raises(RuntimeError, match="a defect"):
        asyncio.run(scenario())


def lines_of(parts: list[bytes], maximum: int = 100) -> list[bytes]:
    class Content:
        async def iter_any(self) -> AsyncIterator[bytes]:
            for part in parts:
                yield part

    async def scenario() -> list[bytes]:
        return [each async for each in read_lines(Content(), maximum)]  # type: ignore[arg-type]

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("parts", "lines"),
    [
        ([], []),
        ([b"a\nb\n"], [b"a", b"b"]),
        ([b"a", b"b\nc", b"\n"], [b"ab", b"c"]),
        ([b"a\n\n\r\nb\n"], [b"a", b"b"]),
        ([b"a\nhal", b"f"], [b"a"]),
    ],
    ids=["none", "two at once", "in parts", "empty lines", "one that the end of the connection has cut"],
)
def test_lines_come_whole(parts: list[bytes], lines: list[bytes]) -> None:
    assert lines_of(parts) == lines


@pytest.mark.parametrize("parts", [[b"x" * 60, b"x" * 60], [b"a\n" + b"x" * 101 + b"\n"]])
def test_a_line_has_a_bound(parts: list[bytes]) -> None:
    with pytest.raises(ValueError, match="longer than 100 bytes"):
        lines_of(parts)


@pytest.mark.parametrize(
    ("method", "path", "watch", "words"),
    [
        ("GET", "/api/v1/namespaces/a/pods", False, ("list", "pods")),
        ("GET", "/api/v1/pods", True, ("watch", "pods")),
        ("PATCH", "/api/v1/namespaces/a/pods/b/status", False, ("patch", "pods/status")),
    ],
)
def test_requests_in_the_words_of_kubernetes(method: str, path: str, watch: bool, words: tuple[str, str]) -> None:
    assert describe(method, path, watch=watch) == words
