"""The poll of agents: what counts as an answer, what is news and about which adapters, and how often each is asked."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from lora_api.delivery import AgentStatus
from lora_operator.cluster.agents import MAXIMUM_BYTES, AgentReader, direct_fetch
from lora_operator.domain.inference import AgentReport, InferencePod

DEADLINE = 30.0
INTERVAL = 15.0
Answer = dict[str, Any]
News = list[tuple[str, str, list[str]]]


def running(number: int = 1, ip: str = "10.0.0.1") -> InferencePod:
    return InferencePod(
        "team-a", f"pod-{number}", f"uid-{number}", ip=ip, adapters=("a", "b"), injected=True, running=True
    )


def adapter(name: str, **fields: Any) -> Answer:
    return {"name": name, "servedName": name, "state": "Served", "digest": "sha256:1"} | fields


def status(*adapters: Answer, **fields: Any) -> Answer:
    own = {"podUid": "uid-1", "started": True, "ready": True, "engine": {"kind": "vllm", "reachable": True}}
    return own | {"desiredDigest": "d1", "adapters": list(adapters)} | fields


class Agent:
    """Answers one thing after the other, and says when all were asked for."""

    def __init__(self, *answers: Answer | str | Exception) -> None:
        self._answers = list(answers)
        self.left = len(self._answers)
        self.hang = asyncio.Event()
        self.asked: list[InferencePod] = []

    async def __call__(self, namespace: str, pod: InferencePod) -> str:
        self.asked.append(pod)
        if not self.left:
            await self.hang.wait()
        self.left -= 1
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, str) else json.dumps(answer)


@asynccontextmanager
async def polling(reader: AgentReader) -> AsyncIterator[None]:
    task = asyncio.create_task(reader.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def hear(*answers: Answer | str | Exception, pod: InferencePod | None = None) -> tuple[News, AgentReport, list[bool]]:
    """Let an agent answer. Returns the news, what is known in the end, and which questions were answered."""
    news: News = []
    answered: list[bool] = []
    seen = pod or running()

    async def scenario() -> AgentReport:
        done = asyncio.Event()

        def observe(each: bool) -> None:
            answered.append(each)
            if len(answered) == len(answers):
                done.set()

        reader = AgentReader(
            Agent(*answers),
            lambda namespace, name, adapters: news.append((namespace, name, sorted(adapters))),
            interval=0.001,
            soon_interval=0.001,
            chance=lambda: 0.0,
            observer=observe,
        )
        assert reader.read(seen, soon=False) == AgentReport(), "a pass waits for nobody"
        async with polling(reader), asyncio.timeout(DEADLINE):
            await done.wait()
        return reader.read(seen, soon=False)

    report = asyncio.run(scenario())
    return news, report, answered


@pytest.mark.parametrize(
    "answer",
    [
        aiohttp.ClientConnectionError(),
        TimeoutError(),
        OSError(),
        "<html>",
        "[]",
        "{}",
        json.dumps(status(adapter("a", state="Dancing"))),
        json.dumps(status(podUid="uid-2")),
        json.dumps(status(*[adapter("a")] * 513)),
        "[" * 100_000,
    ],
    ids=["connection", "timeout", "system", "page", "list", "nothing", "state", "other pod", "too many", "deep"],
)
def test_what_is_no_status_of_this_pod_is_no_answer(answer: str | Exception) -> None:
    news, report, answered = hear(answer)
    assert answered == [False]
    assert report.status is None
    assert report.silent_seconds is not None
    assert news == [("team-a", "pod-1", ["a", "b"])]


def test_what_an_agent_says() -> None:
    _, report, answered = hear(status(adapter("a", loadSeconds=float("nan")), newer=[1]))
    assert answered == [True]
    assert report == AgentReport(AgentStatus.model_validate(status(adapter("a"))), None)


def test_silence_takes_nothing_back() -> None:
    _, report, _ = hear(status(adapter("a")), OSError())
    assert report.status == AgentStatus.model_validate(status(adapter("a")))
    assert report.silent_seconds is not None


A, B = adapter("a"), adapter("b")


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        (status(A, B), status(A, B), None),
        (status(A, B), status(B, A), None),
        (status(A, B), status(A, adapter("b", state="Failed")), ["b"]),
        (status(A, B), status(A), ["b"]),
        (status(A), status(A, adapter("c")), ["c"]),
        (status(adapter("a", downloadedBytes=1)), status(adapter("a", downloadedBytes=2)), None),
        (status(adapter("a", totalBytes=1)), status(adapter("a", totalBytes=2)), ["a"]),
        (status(A, B), status(A, B, desiredDigest="d2"), None),
        (status(A, B), status(A, B, ready=False), None),
        (status(A), status(A, engine={"kind": "sglang"}), ["a", "b"]),
        (status(A), OSError(), ["a", "b"]),
        (status(A), status(A, podUid="uid-2"), ["a", "b"]),
    ],
    ids=[
        "the same",
        "another order",
        "a state",
        "one less",
        "one more, which the pod does not ask for",
        "bytes on their way",
        "their number",
        "what it works from: the adapters that change for it say so themselves",
        "readiness",
        "another engine",
        "silence",
        "another pod at its address",
    ],
)
def test_which_adapters_hear_of_a_difference(
    first: Answer, second: Answer | Exception, names: list[str] | None
) -> None:
    news, _, _ = hear(first, second)
    assert news[1:] == ([("team-a", "pod-1", names)] if names is not None else [])


def test_a_pod_that_falls_silent_and_speaks_again_is_news_twice() -> None:
    news, report, _ = hear(status(A), OSError(), OSError(), status(A), status(A))
    assert [names for _, _, names in news] == [["a", "b"]] * 3, "its first words, its silence, its return"
    assert report.silent_seconds is None


def test_the_same_words_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    parse = AgentStatus.model_validate
    monkeypatch.setattr(AgentStatus, "model_validate", lambda value: read.append("") or parse(value))
    hear(*[status(A, B)] * 5, status(A))
    assert len(read) == 2


class Time:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_how_long_a_pod_is_silent_counts_from_the_first_question_without_an_answer() -> None:
    clock = Time()
    clock.now = 100.0

    async def scenario() -> AgentReport:
        asked = asyncio.Event()
        reader = AgentReader(
            Agent(OSError()), lambda *_: None, clock=clock, chance=lambda: 0.0, observer=lambda _: asked.set()
        )
        reader.read(running(), soon=False)
        async with polling(reader), asyncio.timeout(DEADLINE):
            await asked.wait()
        clock.now = 107.0
        return reader.read(running(), soon=False)

    assert asyncio.run(scenario()).silent_seconds == 7.0


def test_an_agent_that_does_not_run_is_not_asked_and_what_it_said_is_still_known() -> None:
    async def scenario() -> None:
        asked = asyncio.Event()
        agent = Agent(status(A))
        reader = AgentReader(agent, lambda *_: None, chance=lambda: 0.0, observer=lambda _: asked.set())
        for stopped in (replace(running(), running=False), replace(running(), ip="")):
            assert reader.read(stopped, soon=True) == AgentReport()
        assert reader.pods == 0
        reader.read(running(), soon=True)
        async with polling(reader), asyncio.timeout(DEADLINE):
            await asked.wait()
        assert reader.read(replace(running(), running=False), soon=True).status is not None
        assert reader.read(replace(running(2), name="pod-1", running=False), soon=True).status is None
        reader.forget(replace(running(2), name="pod-1"))
        assert reader.pods == 1, "another pod of the name is not meant"
        reader.forget(running())
        assert reader.pods == 0

    asyncio.run(scenario())


Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def agents(respond: Respond) -> AsyncIterator[Any]:
    """Run an HTTP server, and yield the way to it."""
    app = web.Application()
    app.router.add_get("/status", respond)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "0.0.0.0", 0)
    await site.start()
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield direct_fetch(session, port=runner.addresses[0][1])
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("size", "accepted"), [(MAXIMUM_BYTES - 100, True), (MAXIMUM_BYTES + 1, False)])
def test_the_longest_answer(size: int, accepted: bool) -> None:
    async def respond(request: web.Request) -> web.StreamResponse:
        return web.Response(text=json.dumps(status(padding="x" * (size - 400))) if accepted else "x" * size)

    async def scenario() -> str:
        async with agents(respond) as fetch:
            return str(await fetch("team-a", running(ip="127.0.0.1")))

    if accepted:
        assert json.loads(asyncio.run(scenario()))["podUid"] == "uid-1"
    else:
        with pytest.raises(ValueError, match="longer than 524288 bytes"):
            asyncio.run(scenario())


def test_a_pod_that_is_waited_for_is_asked_often_while_150_others_hang() -> None:
    """Real HTTP: news of the one pod that is about to change arrive within a second, whatever the others do."""
    released = asyncio.Event()
    count = 0

    async def respond(request: web.Request) -> web.StreamResponse:
        nonlocal count
        if not request.host.startswith("127.0.1.1:"):
            await released.wait()
        count += 1
        return web.json_response(status(adapter("a", loadSeconds=float(count))))

    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        times: list[float] = []
        enough = asyncio.Event()

        def news(namespace: str, name: str, names: frozenset[str]) -> None:
            if name == "pod-1":
                times.append(loop.time())
                if len(times) == 5:
                    enough.set()

        async with agents(respond) as fetch:
            reader = AgentReader(fetch, news, chance=lambda: 0.0)
            async with polling(reader), asyncio.timeout(DEADLINE):
                reader.read(running(1, "127.0.1.1"), soon=True)
                while not times:
                    await asyncio.sleep(0.01)
                for number in range(2, 152):
                    reader.read(running(number, f"127.0.1.{number}"), soon=True)
                await enough.wait()
            released.set()
        return times[-1] - times[0]

    assert asyncio.run(scenario()) < 4 * (0.5 + 0.5)
