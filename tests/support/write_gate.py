"""A way to the API server on which a process can be killed at a chosen write: just before it, or just after.

An HTTP server between the operator and the API server. It passes everything on, counts the writes, and at the armed
one kills whoever it is told to, so that the write either never arrives or is never answered.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from support.apiserver import ApiServer, free_port

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_HOP_BY_HOP = frozenset({"host", "content-length", "transfer-encoding", "connection"})


@dataclass
class Shot:
    """When to kill: at the n-th write that counts from now, before it reaches the server or after."""

    number: int
    after: bool
    kill: Callable[[], None]


@dataclass
class WriteGate:
    """The server. Use it as a context manager."""

    server: ApiServer
    folder: Path
    counts: Callable[[str], bool] = lambda path: True
    """Which writes count, by their path."""
    writes: list[str] = field(default_factory=list)
    """Method and path of every write that counted."""
    shot: Shot | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None

    def __enter__(self) -> "WriteGate":
        ready = threading.Event()
        self._port = free_port()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(timeout=30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(timeout=30)

    def arm(self, number: int, *, after: bool, kill: Callable[[], None]) -> None:
        """Kill at the n-th write from now, counted from 1."""
        self.writes.clear()
        self.shot = Shot(number, after, kill)

    @property
    def kubeconfig(self) -> Path:
        """The operator's kubeconfig, through the gate."""
        config = yaml.safe_load(self.server.operator_kubeconfig.read_text())
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self._port}"}
        path = self.folder / "gate-kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        upstream = yaml.safe_load(self.server.operator_kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        connector = aiohttp.TCPConnector(ssl=False, limit=0)
        async with aiohttp.ClientSession(upstream, connector=connector, auto_decompress=False) as session:
            app = web.Application(client_max_size=2**24)

            async def handle(request: web.Request) -> web.StreamResponse:
                return await self._pass(request, session)

            app.router.add_route("*", "/{tail:.*}", handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self._port).start()
            ready.set()
            await self._done.wait()
            await runner.cleanup()

    async def _pass(self, request: web.Request, session: aiohttp.ClientSession) -> web.StreamResponse:
        hit = self._hit(request)
        if hit and not hit.after:
            hit.kill()
            raise web.HTTPServiceUnavailable
        body = await request.read() or None
        async with session.request(
            request.method,
            request.rel_url,
            data=body,
            headers=_passed_on(request.headers),
            timeout=aiohttp.ClientTimeout(),
        ) as answer:
            if hit:
                await answer.read()  # the server has done it
                hit.kill()
                raise web.HTTPServiceUnavailable
            return await self._answer(request, answer)

    async def _answer(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        """Pass the answer on piece by piece: a watch never ends."""
        response = web.StreamResponse(status=answer.status, headers=_passed_on(answer.headers))
        await response.prepare(request)
        async for piece in answer.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response

    def _hit(self, request: web.Request) -> Shot | None:
        if request.method not in WRITES or not self.counts(request.path):
            return None
        self.writes.append(f"{request.method} {request.path}")
        if self.shot is None or len(self.writes) != self.shot.number:
            return None
        shot, self.shot = self.shot, None
        return shot


def _passed_on(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}
