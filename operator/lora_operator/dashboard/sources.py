"""Where the rows and pages come from: a memory that watches feed, or the API server with the viewer's own token.

Nothing that was read for one viewer is ever kept for another: the second way has no memory at all.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

import aiohttp

from lora_operator.cluster.client import ApiError, Client
from lora_operator.cluster.reflector import Reflector
from lora_operator.dashboard.kinds import KINDS, Kind
from lora_operator.dashboard.store import Revision, Store, encode
from lora_operator.dashboard.viewers import Viewers

Document = dict[str, Any]

STALE_SECONDS: Final = 30.0
"""Without a watch, after which the page says that it may be out of date."""
MAX_ROWS: Final = 5_000
"""Of one list with the token of a viewer; more are left out, and the page says so."""
_LISTS: Final = 4
"""Lists for viewers at the same time: each is a burden for the API server, and takes memory here."""


class SourceError(Exception):
    """There is no answer; `status` is what HTTP calls it, the text is for the viewer."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        """Keep both."""
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows, and what the page has to say about them."""

    rows: list[Document]
    stale: bool = False
    truncated: bool = False


class Source(Protocol):
    """Where rows and pages come from. Both raise `SourceError`."""

    revision: Revision | None
    """Counts changes, if this source hears of them."""

    async def rows(self, kind: str, namespace: str, token: str | None) -> Listing:
        """Return the rows of a namespace, or of all that may be read."""

    async def detail(self, kind: str, namespace: str, name: str, token: str | None) -> bytes | None:
        """Return the JSON of one page."""

    def is_ready(self) -> bool:
        """Return whether it can answer."""


class CachedSource:
    """Answers from memory, with the rights of the dashboard itself; all viewers see the same."""

    def __init__(self) -> None:
        """Start empty; `follow` fills it."""
        self.revision: Revision | None = Revision()
        self.stores: Mapping[str, Store] = {name: Store(kind, self.revision) for name, kind in KINDS.items()}
        self._reflectors: list[Reflector] = []

    @asynccontextmanager
    async def follow(self, client: Client, namespaces: Sequence[str]) -> AsyncIterator[asyncio.Task[None]]:
        """Feed the memory while the context lasts; the task that is yielded ends only by an error."""
        scopes: Sequence[str | None] = namespaces or [None]
        self._reflectors = [
            Reflector(client, KINDS[name].resource, scope, store)
            for name, store in self.stores.items()
            for scope in scopes
        ]
        task = asyncio.create_task(_run_all(self._reflectors), name="watches")
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def rows(self, kind: str, namespace: str, token: str | None) -> Listing:
        """Return all rows; the filter is left to the query, which needs the others for its counts."""
        del namespace, token
        stale = any(each.blind_seconds > STALE_SECONDS for each in self._reflectors)
        return Listing(self.stores[kind].rows(), stale=stale)

    async def detail(self, kind: str, namespace: str, name: str, token: str | None) -> bytes | None:
        """Return the page as it was when the object changed last."""
        del token
        return self.stores[kind].detail(namespace, name)

    def is_ready(self) -> bool:
        """Return whether every kind has been listed once."""
        return all(each.synced.is_set() for each in self._reflectors)


async def _run_all(reflectors: Sequence[Reflector]) -> None:
    async with asyncio.TaskGroup() as group:
        for each in reflectors:
            group.create_task(each.run())


class ViewerSource:
    """Asks the API server anew for each request, with the token of the viewer, and keeps nothing."""

    def __init__(self, viewers: Viewers, namespaces: Sequence[str]) -> None:
        """Ask by `viewers`; for these namespaces only, if there are any."""
        self.revision: Revision | None = None
        self._viewers = viewers
        self._namespaces = tuple(namespaces)
        self._turn = asyncio.Semaphore(_LISTS)

    async def rows(self, kind: str, namespace: str, token: str | None) -> Listing:
        """Return the rows that the viewer may list, in one namespace or in all.

        Of the namespaces that the dashboard was started for, those that the viewer may not read are left out.
        """
        client = self._client(token)
        if namespace or not self._namespaces:
            self._check_scope(namespace)
            return await self._list(client, KINDS[kind], namespace or None)
        parts = [await self._list_or_refusal(client, KINDS[kind], each) for each in self._namespaces]
        read = [each for each in parts if isinstance(each, Listing)]
        if not read:
            raise next(each for each in parts if isinstance(each, SourceError))
        rows = [row for each in read for row in each.rows]
        return Listing(rows[:MAX_ROWS], truncated=len(rows) > MAX_ROWS or any(each.truncated for each in read))

    async def detail(self, kind: str, namespace: str, name: str, token: str | None) -> bytes | None:
        """Return the page of an object as it is now."""
        self._check_scope(namespace)
        client, shown = self._client(token), KINDS[kind]
        try:
            document = await client.get(shown.resource, namespace, name)
        except (ApiError, aiohttp.ClientError, OSError, ValueError) as error:
            raise _no_answer(error) from error
        return encode(shown.detail(document)) if document else None

    def is_ready(self) -> bool:
        """Return True: it needs nothing of its own."""
        return True

    def _client(self, token: str | None) -> Client:
        if token is None:
            raise SourceError(HTTPStatus.UNAUTHORIZED, "Sign in: the proxy in front of this page sent no token.")
        return self._viewers.client(token)

    def _check_scope(self, namespace: str) -> None:
        if namespace and self._namespaces and namespace not in self._namespaces:
            raise SourceError(HTTPStatus.FORBIDDEN, f"This dashboard shows: {', '.join(self._namespaces)}.")

    async def _list_or_refusal(self, client: Client, kind: Kind, namespace: str) -> Listing | SourceError:
        try:
            return await self._list(client, kind, namespace)
        except SourceError as error:
            if error.status is not HTTPStatus.FORBIDDEN:
                raise
            return error

    async def _list(self, client: Client, kind: Kind, namespace: str | None) -> Listing:
        """Return the rows of a list, each made as soon as its object is read."""
        rows: list[Document] = []
        try:
            async with self._turn:
                async for page in client.pages(kind.resource, namespace, limit=100):
                    rows += [kind.row(each) for each in page.items]
                    if len(rows) > MAX_ROWS:
                        return Listing(rows[:MAX_ROWS], truncated=True)
        except (ApiError, aiohttp.ClientError, OSError, ValueError) as error:
            raise _no_answer(error) from error
        return Listing(rows)


def _no_answer(error: Exception) -> SourceError:
    """Return what the viewer is told. The API server's own words about rights help; other faults are not theirs."""
    if isinstance(error, ApiError) and error.status == HTTPStatus.UNAUTHORIZED:
        return SourceError(HTTPStatus.UNAUTHORIZED, "Sign in again: the API server does not know this token.")
    if isinstance(error, ApiError) and error.status == HTTPStatus.FORBIDDEN:
        return SourceError(HTTPStatus.FORBIDDEN, error.message)
    return SourceError(HTTPStatus.BAD_GATEWAY, "The API server does not answer; this page tries again by itself.")
