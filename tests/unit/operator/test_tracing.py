"""Spans: a pass with its parts and its requests, sent over HTTP; and without an endpoint nothing at all."""

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lora_operator.app.metrics import Metrics
from lora_operator.app.telemetry import Telemetry
from lora_operator.app.tracing import Tracing, open_tracing
from lora_operator.reconcile.keys import Key, Kind

KEY = Key(Kind.LORAJOB, "team-a", "support-bot")


async def one_pass(telemetry: Telemetry) -> None:
    """Make a pass as the reconciler does."""
    with telemetry.started(KEY):
        with telemetry.part("observe"):
            await asyncio.gather(*(request(telemetry, each) for each in ("configmaps", "jobs")))
        telemetry.read(3)
        with telemetry.part("plan"):
            pass
        with telemetry.part("execute"):
            telemetry.requested("patch", "jobs", 503, 0.25)


async def request(telemetry: Telemetry, resource: str) -> None:
    await asyncio.sleep(0)
    telemetry.requested("get", resource, 404, 0.01)


def test_a_pass_is_a_tree() -> None:
    exporter = InMemorySpanExporter()
    tracing = open_tracing(None, processor=SimpleSpanProcessor(exporter))
    asyncio.run(one_pass(Telemetry(Metrics(), tracing)))
    tracing.close()

    spans = {each.name: each for each in exporter.get_finished_spans()}
    names = {each.context.span_id: each.name for each in spans.values() if each.context}
    assert {each.name: each.parent and names[each.parent.span_id] for each in spans.values()} == {
        "reconcile": None,
        "observe": "reconcile",
        "plan": "reconcile",
        "execute": "reconcile",
        "get configmaps": "observe",
        "get jobs": "observe",
        "patch jobs": "execute",
    }
    attributes = {"kind": "LoRAJob", "namespace": "team-a", "name": "support-bot", "generation": 3}
    assert spans["reconcile"].attributes == attributes
    assert spans["reconcile"].resource.attributes["service.name"] == "lora-operator"
    written = spans["patch jobs"]
    assert (written.end_time or 0) - (written.start_time or 0) == pytest.approx(0.25e9)
    assert written.status.status_code.name == "ERROR"
    assert spans["get jobs"].status.status_code.name == "UNSET", "an object that is not there is no error"


class Collector(HTTPServer):
    """Takes what an exporter sends."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[tuple[str, bytes]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(timeout=10)


def test_spans_reach_the_endpoint(collector: Collector) -> None:
    tracing = open_tracing(f"http://127.0.0.1:{collector.server_port}")
    asyncio.run(one_pass(Telemetry(Metrics(), tracing)))
    tracing.close()
    sent = b"".join(body for path, body in collector.bodies if path == "/v1/traces")
    assert b"reconcile" in sent
    assert b"support-bot" in sent


def test_without_an_endpoint_nothing_is_imported() -> None:
    code = (
        "import sys; from lora_operator.app.tracing import open_tracing; tracing = open_tracing(None);"
        "tracing.span('reconcile').__enter__(); tracing.request('get', 'jobs', 200, 0.1);"
        "print([each for each in sys.modules if each.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_an_endpoint_without_the_package_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with caplog.at_level(logging.WARNING):
        tracing = open_tracing("http://collector:4318")
    assert type(tracing) is Tracing
    assert "lora-operator[tracing]" in caplog.text
