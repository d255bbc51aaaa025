"""A user of the API server who asks for many things at once. Plain JSON over aiohttp: it shares the processors."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import aiohttp

from bench.operator.cluster import Cluster

_CONCURRENCY = 32
_PAGE = 500
_ERROR = 400
Document = dict[str, Any]


class Api:
    """An administrator's connection; use it as an async context."""

    def __init__(self, cluster: Cluster) -> None:
        """Prepare to talk to a cluster."""
        self._cluster = cluster
        self._slots = asyncio.Semaphore(_CONCURRENCY)

    async def __aenter__(self) -> "Api":
        """Open the connections."""
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE  # one's own server on the loopback address
        self._session = aiohttp.ClientSession(
            self._cluster.server,
            headers={"Authorization": f"Bearer {self._cluster.tokens['admin']}"},
            connector=aiohttp.TCPConnector(ssl=trust, limit=_CONCURRENCY),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close them."""
        await self._session.close()

    async def create(self, path: str, document: Document) -> None:
        """Create an object."""
        async with self._slots:
            await self._ask("POST", path, document)

    async def create_all(self, objects: Iterable[tuple[str, Document]]) -> None:
        """Create objects as fast as they are taken."""
        await asyncio.gather(*(self.create(path, document) for path, document in objects))

    async def list(self, path: str, **query: str) -> list[Document]:
        """Return all objects of a collection."""
        found: list[Document] = []
        query |= {"limit": str(_PAGE)}
        while True:
            page = await self._ask("GET", path, query=query)
            found += page["items"]
            query["continue"] = page["metadata"].get("continue") or ""
            if not query["continue"]:
                return found

    async def count(self, path: str) -> int:
        """Return the number of objects of a collection, without reading them."""
        page = await self._ask("GET", path, query={"limit": "1"})
        return len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)

    async def delete(self, path: str) -> None:
        """Delete an object."""
        await self._ask("DELETE", path)

    async def _ask(self, method: str, path: str, body: Document | None = None, query: Any = None) -> Document:
        async with self._session.request(method, path, json=body, params=query) as answer:
            text = await answer.text()
            if answer.status >= _ERROR:
                raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]}")
            found: Document = json.loads(text)
            return found


async def until(
    what: str, look: Callable[[], Awaitable[bool]], *, seconds: float, interval: float, cluster: Cluster
) -> None:
    """Wait until `look` says so. Raises RuntimeError after the time, or when a part of the cluster has ended."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not await look():
        cluster.check()
        if loop.time() > deadline:
            raise RuntimeError(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(interval)


async def read(port: int, path: str, token: str = "") -> str:
    """Return what a program beside this one says on a port; nothing while it does not listen, or refuses.

    With a token it is asked over TLS.
    """
    scheme, headers = ("https", {"Authorization": f"Bearer {token}"}) if token else ("http", {})
    address = f"{scheme}://127.0.0.1:{port}{path}"
    try:
        async with aiohttp.ClientSession() as session, session.get(address, headers=headers, ssl=False) as answer:
            return await answer.text() if answer.ok else ""
    except (aiohttp.ClientError, OSError):
        return ""


def read_metrics(text: str) -> dict[str, float]:
    """Return the values of a page of Prometheus' format, by name and labels."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}
