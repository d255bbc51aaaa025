"""The poll of training pods: in the background, each at its time, and nobody waits for one that hangs."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from lora_api.messages import Progress
from lora_operator.cluster.fetch import DirectFetch
from lora_operator.cluster.progress import ProgressReader
from lora_operator.domain.observed import PodView

INTERVAL = 15.0
DEADLINE = 30.0


def running(number: int = 1, ip: str = "10.0.0.1") -> PodView:
    created = "2026-01-02T03:04:05Z"
    return PodView(name=f"pod-{number}", uid=f"pod-{number}", created=created, phase="Running", running=True, ip=ip)


class Pods:
    """Trainer pods that answer what a test says."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)

    async def __call__(self, namespace: str, pod: PodView) -> str:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@asynccontextmanager
async def polling(reader: ProgressReader) -> AsyncIterator[None]:
    task = asyncio.create_task(reader.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(event: asyncio.Event) -> None:
    async with asyncio.timeout(DEADLINE):
        await event.wait()


async def first_poll(pods: Pods) -> tuple[Progress | None, bool]:
    """Return what is known after the first question, and whether it was answered."""
    told: list[bool] = []
    asked = asyncio.Event()

    def observe(answered: bool) -> None:
        told.append(answered)
        asked.set()

    reader = ProgressReader(pods, INTERVAL, lambda *_: None, chance=lambda: 0.0, observer=observe)
    assert reader.read("team-a", "support-bot", running()) is None, "a pass waits for nobody"
    async with polling(reader):
        await until(asked)
        return reader.read("team-a", "support-bot", running()), told[0]


@pytest.mark.parametrize(
    "answer",
    [aiohttp.ClientConnectionError(), TimeoutError(), OSError(), "<html>", "[]", '{"step": "many"}'],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else each,
)
def test_what_goes_wrong_is_no_answer(answer: str | Exception) -> None:
    assert asyncio.run(first_poll(Pods(answer))) == (None, False)


def test_a_loss_that_is_no_number_is_left_out() -> None:
    progress, answered = asyncio.run(first_poll(Pods('{"step": 3, "loss": NaN, "percent": 2.5}')))
    assert answered
    assert progress == Progress(step=3, percent=2.5)


Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def trainer(respond: Respond) -> AsyncIterator[DirectFetch]:
    """Run an HTTP server, and yield the way to it. A test gives each pod an address of 127.0.0.0/8."""
    app = web.Application()
    app.router.add_get("/progress", respond)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "0.0.0.0", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield DirectFetch(session, port=port)
    finally:
        await runner.cleanup()


def local(number: int) -> PodView:
    return running(number, f"127.0.1.{number}")


async def _slices(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for part in (b'{"step"', b": 12", b"}"):
        await response.write(part)
        await asyncio.sleep(0.05)  # so that each part arrives alone
    return response


def test_an_answer_that_comes_in_parts_is_read_to_its_end() -> None:
    async def scenario() -> str:
        async with trainer(_slices) as fetch:
            return await fetch("team-a", local(1))

    assert asyncio.run(scenario()) == '{"step": 12}'


@pytest.mark.parametrize(
    ("respond", "error"),
    [
        (web.Response(body=b"x" * 70_000), "65536 bytes"),
        (web.Response(status=503), "503"),
        (web.Response(status=302, headers={"Location": "http://169.254.169.254/"}), "no JSON"),
    ],
    ids=["too long", "an error", "a redirect, which is not followed"],
)
def test_answers_that_are_refused(respond: web.Response, error: str) -> None:
    async def same(request: web.Request) -> web.StreamResponse:
        return respond

    async def scenario() -> None:
        async with trainer(same) as fetch:
            text = await fetch("team-a", local(1))
            raise ValueError(f"no JSON: {text!r}")

    with pytest.raises((ValueError, aiohttp.ClientError), match=error):
        asyncio.run(scenario())


def test_150_of_200_pods_that_hang_do_not_delay_the_others() -> None:
    """Real HTTP. The 50 that answer have answered once; then each is due again while all others hang."""
    interval, good, all_pods = 1.0, 50, 200
    heard: dict[str, int] = {}
    asked: dict[str, int] = {}
    released = asyncio.Event()
    hanging, most = 0, 0

    async def respond(request: web.Request) -> web.StreamResponse:
        host = request.host.split(":")[0]
        asked[host] = asked.get(host, 0) + 1
        if int(host.rsplit(".", 1)[1]) > good:
            await released.wait()
        return web.json_response({"step": asked[host], "loss": 1.5})

    async def scenario() -> float:
        async with trainer(respond) as fetch:
            once, often = asyncio.Event(), asyncio.Event()

            async def counted(namespace: str, pod: PodView) -> str:
                nonlocal hanging, most
                hangs = int(pod.ip.rsplit(".", 1)[1]) > good
                hanging += hangs
                most = max(most, hanging)
                try:
                    return await fetch(namespace, pod)
                finally:
                    hanging -= hangs

            def news(namespace: str, job: str) -> None:
                heard[job] = heard.get(job, 0) + 1
                if len(heard) == good:
                    once.set()
                    if min(heard.values()) >= 4:
                        often.set()

            reader = ProgressReader(counted, interval, news, chance=lambda: 0.0)
            async with polling(reader):
                for number in range(1, good + 1):
                    reader.read("team-a", str(number), local(number))
                await until(once)
                for number in range(good + 1, all_pods + 1):
                    reader.read("team-a", str(number), local(number))
                begun = asyncio.get_running_loop().time()
                await until(often)
                taken = asyncio.get_running_loop().time() - begun
            released.set()
        return taken

    taken = asyncio.run(scenario())
    assert taken < 8.0, "three rounds of a second each, on a busy machine; the hanging ones alone take 12 s a round"
    assert most == 24
    assert set(heard) == {str(number) for number in range(1, good + 1)}
    assert all(asked[f"127.0.1.{job}"] >= count for job, count in heard.items())


def test_one_answer_is_news_once() -> None:
    told: list[tuple[str, str]] = []
    polls = 0
    enough = asyncio.Event()

    def observe(answered: bool) -> None:
        nonlocal polls
        polls += 1
        if polls == 3:
            enough.set()

    async def scenario() -> None:
        reader = ProgressReader(
            Pods(*[json.dumps({"step": 1})] * 100),
            0.01,
            lambda *job: told.append(job),
            chance=lambda: 0.0,
            observer=observe,
        )
        reader.read("team-a", "support-bot", running())
        async with polling(reader):
            await until(enough)

    asyncio.run(scenario())
    assert told == [("team-a", "support-bot")]


def test_a_new_pod_is_asked_again_long_before_the_interval_of_an_old_one() -> None:
    steps: list[int] = []
    over = asyncio.Event()

    async def scenario() -> None:
        def news(namespace: str, job: str) -> None:
            progress = reader.read(namespace, job, running())
            steps.append(progress.step if progress else 0)
            if len(steps) == 3:
                over.set()

        pods = Pods(*(json.dumps({"step": step, "loss": 1.5}) for step in range(1, 1000)))
        reader = ProgressReader(pods, INTERVAL, news, young_interval=0.01, chance=lambda: 0.0)
        reader.read("team-a", "support-bot", running())
        async with polling(reader):
            async with asyncio.timeout(INTERVAL - 1):
                await over.wait()

    asyncio.run(scenario())
    assert steps == [1, 2, 3]
