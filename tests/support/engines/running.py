"""Runs a fake engine on a port of its own, lets it go away and come back, and holds what it was asked."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from support.engines.standalone import Reply, Server


class Engine(Protocol):
    """What can be run."""

    def answer(self, method: str, path: str, key: str | None, body: Any) -> Reply:
        """Answer one request."""

    def restart(self) -> None:
        """Become as after the start of a new process."""


EngineT = TypeVar("EngineT", bound=Engine)


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    key: str | None
    body: Any


class Running(Generic[EngineT]):
    """An engine behind a port, which stays the same over restarts."""

    def __init__(self, engine: EngineT) -> None:
        """Start to serve."""
        self.engine = engine
        self.requests: list[Request] = []
        self.replies: list[Reply] = []
        """Answers to give before the right ones."""
        self.flowing = threading.Event()
        """While it is cleared, requests wait."""
        self.flowing.set()
        self._port = 0
        self._server: Server | None = None
        self.start()

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self._port}"

    def answer(self, method: str, path: str, key: str | None, body: Any) -> Reply:
        """Note the request, wait while nothing flows, and answer."""
        self.requests.append(Request(method, path, key, body))
        self.flowing.wait()
        return self.replies.pop(0) if self.replies else self.engine.answer(method, path, key, body)

    def start(self) -> None:
        """Accept connections, after a stop as a new process that remembers nothing."""
        if self._port:
            self.engine.restart()
        self._server = Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Refuse connections."""
        self.flowing.set()
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def restart(self) -> None:
        """Stop, and start again at once."""
        self.stop()
        self.start()

    def posts(self, path: str = "") -> list[Any]:
        """Return the bodies that were posted to a path, or the paths and bodies of all posts."""
        found = [each for each in self.requests if each.method == "POST" and path in ("", each.path)]
        return [each.body if path else (each.path, each.body) for each in found]


@contextmanager
def running(engine: EngineT) -> Iterator[Running[EngineT]]:
    """Run an engine for the time of a block."""
    server = Running(engine)
    try:
        yield server
    finally:
        server.stop()
