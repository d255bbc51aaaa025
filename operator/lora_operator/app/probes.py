"""Health and readiness: a small HTTP server in the event loop that does the work.

A loop that hangs does not answer, and that is the answer. A replica that waits for the Lease, or for an API server that
is away, is healthy: another start would help nobody.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import web


class _Check(NamedTuple):
    age: Callable[[], float]
    limit: float


class Health:
    """Ages in seconds that have a limit. Above it the process needs a new start."""

    def __init__(self) -> None:
        """Expect nothing yet, and be not ready."""
        self._checks: dict[str, _Check] = {}
        self._awaited: set[str] = set()
        self.role = "starting"
        """`starting`, `standby` or `leader`; for people."""
        self.ready = False
        """Whether the API server has been reached, and the process is not about to end."""

    def reached(self) -> None:
        """Say that the API server has answered."""
        self.ready = True

    def await_part(self, name: str) -> None:
        """Be not ready before a part of the process is."""
        self._awaited.add(name)

    def has_part(self, name: str) -> None:
        """Say that a part is ready, and stays so."""
        self._awaited.discard(name)

    @property
    def is_ready(self) -> bool:
        """Return whether the process is ready with all its parts."""
        return self.ready and not self._awaited

    def expect(self, name: str, age: Callable[[], float], limit: float) -> None:
        """Expect an age to stay within its limit."""
        self._checks[name] = _Check(age, limit)

    def report(self) -> dict[str, object]:
        """Return the role, the ages, and under `failing` the names of those that are too high."""
        ages = {name: check.age() for name, check in self._checks.items()}
        failing = [name for name, check in self._checks.items() if ages[name] > check.limit]
        rounded = {name: round(age, 1) for name, age in ages.items()}
        return {"role": self.role, **rounded} | ({"failing": failing} if failing else {})


@asynccontextmanager
async def serve_health(health: Health, address: str, port: int) -> AsyncIterator[None]:
    """Serve /healthz and /readyz."""

    async def healthz(_: web.Request) -> web.Response:
        report = health.report()
        status = HTTPStatus.INTERNAL_SERVER_ERROR if "failing" in report else HTTPStatus.OK
        return web.json_response(report, status=status)

    async def readyz(_: web.Request) -> web.Response:
        status = HTTPStatus.OK if health.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return web.json_response({"ready": health.is_ready}, status=status)

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, address, port).start()
    try:
        yield
    finally:
        await runner.cleanup()
