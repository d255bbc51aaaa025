"""What the operator, the kubelet and Prometheus read: five pages, of a few kilobytes each. Nothing can be written here.

It shares the event loop with the agent and does no work of its own, so it answers while files come and are hashed.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from lora_agent import metrics
from lora_agent.metrics import Metrics
from lora_api.delivery import AgentStatus
from lora_api.names import METRICS_PATH, READY_PATH, STARTED_PATH, STATUS_PATH

HEALTH_PATH = "/healthz"
_MAX_REQUESTS = 32
"""At the same time; the operator, the kubelet and Prometheus need three."""
_HEADER_BYTES = 4096
_KEEPALIVE_SECONDS = 30.0
_SHUTDOWN_SECONDS = 0.2
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class StatusServer:
    """The pages of one agent. `status` is called for each request."""

    def __init__(self, status: Callable[[], AgentStatus], measures: Metrics) -> None:
        self._status, self._measures = status, measures
        self._requests = 0

    def application(self) -> web.Application:
        """Return the pages as an aiohttp application."""
        application = web.Application(middlewares=[self._bounded])
        pages = {
            STATUS_PATH: self._answer_status,
            STARTED_PATH: self._answer_started,
            READY_PATH: self._answer_ready,
            METRICS_PATH: self._answer_metrics,
            HEALTH_PATH: self._answer_health,
        }
        for path, handler in pages.items():
            application.router.add_get(path, handler, allow_head=False)
        return application

    async def start(self, port: int, address: str | None = None) -> web.AppRunner:
        """Listen on an address, or on all. Raises OSError if the port is taken."""
        runner = web.AppRunner(
            self.application(),
            access_log=None,
            shutdown_timeout=_SHUTDOWN_SECONDS,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
        )
        await runner.setup()
        await web.TCPSite(runner, address, port).start()
        return runner

    @web.middleware
    async def _bounded(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.body_exists:
            return web.Response(status=413, text="requests have no body here\n", headers={"Connection": "close"})
        if self._requests >= _MAX_REQUESTS:
            return web.Response(status=503, text="too many requests at the same time\n")
        self._requests += 1
        try:
            return await handler(request)
        finally:
            self._requests -= 1

    async def _answer_status(self, _: web.Request) -> web.Response:
        text = self._status().model_dump_json(by_alias=True, exclude_none=True)
        return web.Response(text=text, content_type="application/json")

    async def _answer_started(self, _: web.Request) -> web.Response:
        return _verdict(self._status().started, "what has to be on disk before the engine starts is not there yet")

    async def _answer_ready(self, _: web.Request) -> web.Response:
        return _verdict(self._status().ready, "an adapter that this pod needs is not served yet")

    async def _answer_metrics(self, _: web.Request) -> web.Response:
        text = metrics.render(self._measures, self._status())
        return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _answer_health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")


def _verdict(good: bool, otherwise: str) -> web.Response:
    return web.Response(text="ok\n") if good else web.Response(status=503, text=f"{otherwise}\n")
