"""The agent's pages: what they say, and what they refuse."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from lora_agent.metrics import Metrics, render
from lora_agent.server import StatusServer
from lora_api.delivery import AdapterState, AgentAdapter, AgentStatus, EngineStatus

ADAPTER = AgentAdapter(
    name="bot", served_name='b"ot\\', state=AdapterState.SERVED, digest="sha256:1", served_digest="sha256:1"
)


def status(*, started: bool = False, ready: bool = False) -> AgentStatus:
    engine = EngineStatus(kind="vllm", reachable=True, restarts=2)
    return AgentStatus(pod_uid="uid", started=started, ready=ready, engine=engine, adapters=[ADAPTER])


def ask(said: AgentStatus, story: Callable[[aiohttp.ClientSession], Awaitable[None]]) -> None:
    async def run() -> None:
        runner = await StatusServer(lambda: said, Metrics()).start(0, "127.0.0.1")
        port = runner.addresses[0][1]
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
                await story(session)
        finally:
            await runner.cleanup()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_the_status_is_what_the_operator_reads() -> None:
    async def story(session: aiohttp.ClientSession) -> None:
        async with session.get("/status") as answer:
            assert answer.status == 200
            assert answer.content_type == "application/json"
            assert AgentStatus.model_validate(json.loads(await answer.text())) == status(started=True)

    ask(status(started=True), story)


@pytest.mark.parametrize(
    ("started", "ready", "codes"), [(False, False, (503, 503)), (True, False, (200, 503)), (True, True, (200, 200))]
)
def test_probes_of_the_kubelet(started: bool, ready: bool, codes: tuple[int, int]) -> None:
    async def story(session: aiohttp.ClientSession) -> None:
        found = []
        for page in ("/started", "/ready"):
            async with session.get(page) as answer:
                found.append(answer.status)
        assert tuple(found) == codes
        async with session.get("/healthz") as answer:
            assert answer.status == 200

    ask(status(started=started, ready=ready), story)


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("POST", "/status", None, 405),
        ("PUT", "/metrics", None, 405),
        ("HEAD", "/status", None, 405),
        ("GET", "/status", b"a body", 413),
        ("POST", "/status", b"a body", 413),
        ("GET", "/elsewhere", None, 404),
        ("GET", "/status/../../etc/passwd", None, 404),
    ],
)
def test_nothing_can_be_written_or_reached_besides(method: str, path: str, body: bytes | None, code: int) -> None:
    async def story(session: aiohttp.ClientSession) -> None:
        async with session.request(method, path, data=body) as answer:
            assert answer.status == code

    ask(status(), story)


def test_headers_are_bounded() -> None:
    async def story(session: aiohttp.ClientSession) -> None:
        async with session.get("/healthz", headers={"X-Large": "x" * 8000}) as answer:
            assert answer.status == 400

    ask(status(), story)


def test_metrics_are_in_the_text_format_of_prometheus() -> None:
    measures = Metrics(downloaded_bytes=12, load_seconds=1.5, probe_failures=3)
    measures.downloads["success"] += 2
    measures.loads["success"] += 1
    lines = render(measures, status()).splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        'lora_agent_adapter_info{name="bot",served_name="b\\"ot\\\\",digest="sha256:1",state="Served"} 1',
        'lora_agent_downloads_total{result="failure"} 0',
        'lora_agent_downloads_total{result="success"} 2',
        "lora_agent_downloaded_bytes_total 12",
        'lora_agent_loads_total{result="failure"} 0',
        'lora_agent_loads_total{result="success"} 1',
        "lora_agent_load_seconds_sum 1.5",
        "lora_agent_load_seconds_count 1",
        "lora_agent_engine_up 1",
        "lora_agent_engine_restarts_total 2",
        "lora_agent_probe_failures_total 3",
        "lora_agent_desired_invalid 0",
    ]
    families = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert len(families) == sum(line.startswith("# HELP") for line in lines) == 9
