"""The HTTP side, over a socket of its own: what is answered, and what is not."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

import lora_operator.dashboard
from browser import samples
from lora_operator.dashboard import server as server_module
from lora_operator.dashboard.server import CONTENT_POLICY, HEADERS, make_app, make_health_app
from lora_operator.dashboard.sources import CachedSource

Story = Callable[[TestClient[Any, Any], CachedSource], Awaitable[None]]
STATIC = Path(lora_operator.dashboard.__file__).parent / "static"


def tell(story: Story) -> None:
    async def run() -> None:
        source = CachedSource()
        for each in samples.realistic_jobs():
            source.stores["jobs"].changed(each)
        for each in samples.realistic_adapters():
            source.stores["adapters"].changed(each)
        async with TestClient(TestServer(make_app(source, ["lora.example.org"]))) as client:
            await story(client, source)

    asyncio.run(run())


def test_a_list_a_page_and_a_file() -> None:
    async def story(client: TestClient[Any, Any], _: CachedSource) -> None:
        listed = await (await client.get("/api/jobs?namespace=team-b&phase=Running")).json()
        assert [each["name"] for each in listed["rows"]] == ["tone-preferences", "invoice-tagger"]
        assert (listed["live"], listed["stale"], listed["truncated"]) == (True, False, False)
        shown = await (await client.get("/api/jobs/team-a/order-mailbox")).json()
        assert shown["explanation"]["exitCode"] == 65
        adapter = await (await client.get("/api/adapters/team-a/support-bot")).json()
        assert len(adapter["pods"]) == 3
        assert "<!doctype html>" in await (await client.get("/")).text()
        script = await client.get("/static/main.js")
        assert script.content_type == "text/javascript"

    tell(story)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/", "/api/jobs", "/api/jobs/team-a/support-bot", "/static/main.js", "/nothing"])
def test_only_get_is_answered(method: str, path: str) -> None:
    async def story(client: TestClient[Any, Any], _: CachedSource) -> None:
        answer = await client.request(method, path)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET")

    tell(story)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/secrets", 404),
        ("/api/jobs/team-a/nothing", 404),
        ("/api/jobs/team-a/..%2f..%2fsecrets", 400),
        ("/api/jobs/%2e%2e/x", 400),
        ("/api/jobs?page=no", 400),
        ("/static/../main.py", 404),
        ("/static/..%2fmain.py", 404),
        ("/static/", 404),
        ("/nothing", 404),
    ],
)
def test_faults_are_words_and_no_markup(path: str, status: int) -> None:
    async def story(client: TestClient[Any, Any], _: CachedSource) -> None:
        answer = await client.session.get(URL(str(client.make_url("/")).rstrip("/") + path, encoded=True))
        assert answer.status == status
        assert answer.content_type == "application/json"
        assert (await answer.json())["error"]

    tell(story)


def test_every_answer_carries_the_policy() -> None:
    async def story(client: TestClient[Any, Any], _: CachedSource) -> None:
        for path in ("/", "/static/main.js", "/api/jobs", "/api/jobs/x/y", "/nothing", "/api/events"):
            answer = await client.get(path)
            for name, value in HEADERS.items():
                assert answer.headers[name] == value, path
            answer.close()
        assert (await client.get("/api/jobs")).headers["Cache-Control"] == "no-store"

    tell(story)


def test_the_policy_allows_no_inline_code_and_nothing_foreign() -> None:
    assert "unsafe" not in CONTENT_POLICY
    assert "http" not in CONTENT_POLICY
    assert CONTENT_POLICY.startswith("default-src 'none'")


def test_a_content_that_is_known_is_not_sent_again() -> None:
    async def story(client: TestClient[Any, Any], source: CachedSource) -> None:
        for path in ("/api/jobs", "/api/jobs/team-a/support-bot", "/static/main.js"):
            first = await client.get(path)
            again = await client.get(path, headers={"If-None-Match": first.headers["ETag"]})
            assert (again.status, await again.read()) == (304, b""), path
        first = await client.get("/api/jobs")
        source.stores["jobs"].changed(samples.job("support-bot", status=samples.training(900)))
        again = await client.get("/api/jobs", headers={"If-None-Match": first.headers["ETag"]})
        assert again.status == 200

    tell(story)


@pytest.mark.parametrize(("host", "status"), [("lora.example.org", 200), ("attacker.example", 421)])
def test_a_page_under_a_foreign_name_is_not_answered(host: str, status: int) -> None:
    async def story(client: TestClient[Any, Any], _: CachedSource) -> None:
        assert (await client.get("/api/jobs", headers={"Host": host})).status == status

    tell(story)


async def next_event(answer: aiohttp.ClientResponse) -> int:
    async with asyncio.timeout(10):
        while not (line := await answer.content.readline()).startswith(b"data: "):
            assert line
    return int(line.removeprefix(b"data: "))


def test_the_stream_speaks_of_changes_and_of_nothing_else() -> None:
    async def story(client: TestClient[Any, Any], source: CachedSource) -> None:
        answer = await client.get("/api/events")
        assert answer.content_type == "text/event-stream"
        first = await next_event(answer)
        source.stores["jobs"].changed(samples.job("support-bot", status=samples.training(900)))
        source.stores["jobs"].gone("team-a", "night-batch", "uid")
        assert await next_event(answer) == first + 2
        answer.close()

    tell(story)


def test_a_write_that_changes_nothing_on_the_page_wakes_nobody() -> None:
    source = CachedSource()
    document = samples.job("support-bot", status=samples.training())
    source.stores["jobs"].changed(document)
    assert source.revision is not None
    before = source.revision.number
    document["metadata"]["resourceVersion"] = "2"
    source.stores["jobs"].changed(document)
    source.stores["jobs"].gone("team-a", "never-seen", "uid")
    assert source.revision.number == before


def test_streams_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_STREAMS", 1)

    async def story(client: TestClient[Any, Any], _: CachedSource) -> None:
        first = await client.get("/api/events")
        await next_event(first)
        assert (await client.get("/api/events")).status == 503
        first.close()

    tell(story)


def test_a_watch_that_is_away_makes_the_list_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind:
        blind_seconds = 31.0

    source = CachedSource()
    monkeypatch.setattr(source, "_reflectors", [Blind()])
    assert asyncio.run(source.rows("jobs", "", None)).stale is True


def test_it_is_ready_when_everything_was_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Watch:
        synced = asyncio.Event()

    source = CachedSource()
    monkeypatch.setattr(source, "_reflectors", [Watch()])

    async def run() -> None:
        async with TestClient(TestServer(make_health_app(source))) as client:
            assert (await client.get("/healthz")).status == 200
            assert (await client.get("/readyz")).status == 503
            Watch.synced.set()
            assert (await client.get("/readyz")).status == 200

    asyncio.run(run())


def test_a_text_of_a_user_is_plain_ascii_on_the_way() -> None:
    async def story(client: TestClient[Any, Any], source: CachedSource) -> None:
        source.stores["jobs"].changed(samples.job("evil", baseModel={"uri": samples.HOSTILE}))
        body = await (await client.get("/api/jobs/team-a/evil")).read()
        assert body.isascii()
        assert json.loads(body)["base"] == samples.HOSTILE

    tell(story)


@pytest.mark.parametrize(
    "word", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"]
)
def test_no_script_makes_markup_of_text_or_knows_another_host(word: str) -> None:
    sources = {each.name: each.read_text().replace('"http://www.w3.org/2000/svg"', "") for each in STATIC.glob("*.js")}
    assert len(sources) > 5
    assert [name for name, text in sources.items() if word in text] == []


def test_the_page_has_no_inline_code() -> None:
    page = (STATIC / "index.html").read_text()
    assert "<style" not in page
    assert " style=" not in page
    assert " on" not in page.replace(" one", "").split("<body>")[1].split(">", 1)[0]
    assert page.count("<script") == page.count('<script type="module" src="static/')
