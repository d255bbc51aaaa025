"""The API server over HTTP: read, create, server-side apply, delete. The only place that knows status codes.

Objects are plain JSON, not the client's typed models: those cost several times the memory, and drop fields that they
do not know. What is not there is None; what the server refuses is `RefusedError`; everything else is `ApiError`.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import aiohttp
from kubernetes.aio.client import ApiClient

from lora_api.names import FIELD_MANAGER
from lora_operator.cluster.bodies import read_answer, read_lines
from lora_operator.cluster.requests import describe
from lora_operator.cluster.resources import (
    EVENTS,
    JOBS,
    LORAADAPTERS,
    LORAJOBS,
    PODS,
    SERVICES,
    WORKLOADS,
    Resource,
    resource_of,
)
from lora_operator.domain.errors import RefusedError
from lora_operator.domain.observed import Document

__all__ = [
    "EVENTS",
    "JOBS",
    "LORAADAPTERS",
    "LORAJOBS",
    "PODS",
    "SERVICES",
    "WORKLOADS",
    "AlreadyExistsError",
    "ApiError",
    "ChangedError",
    "Client",
    "Page",
    "Resource",
    "WatchEvent",
    "resource_of",
]

_PAGE: Final = 500
"""Objects a LIST request: at some 10 kB each, a page stays near 5 MB."""
_WATCH_MARGIN: Final = 30.0
"""Seconds that a watch may last longer than the server was told; then somebody on the way has swallowed its end."""
_EVENT_BYTES: Final = 8 * 1024 * 1024
"""Longest line of a watch; etcd takes no object above 1.5 MiB, and JSON may escape every byte of it."""
_Body = Document | Sequence[Document]
_REFUSALS: Final = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
)


class ApiError(Exception):
    """The API server did not do what it was asked, and asking again later may help."""

    def __init__(self, status: int, message: str) -> None:
        """Keep the HTTP status and the server's words."""
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class AlreadyExistsError(Exception):
    """An object that was not there when we looked is there now."""


class ChangedError(Exception):
    """An object is not what it was when it was read. `invalid`: or else the server takes it for invalid."""

    def __init__(self, message: str, *, invalid: bool) -> None:
        """Keep the server's words."""
        super().__init__(message)
        self.message = message
        self.invalid = invalid


class Page(NamedTuple):
    """A part of a list."""

    items: list[Document]
    version: str
    """The resourceVersion at which the whole list was taken, where a watch may go on."""


class WatchEvent(NamedTuple):
    """One line of a watch."""

    type: str
    """ADDED, MODIFIED, DELETED or BOOKMARK; the last has nothing but a version."""
    object: Document

    @property
    def version(self) -> str:
        """The resourceVersion that the watch has reached."""
        return str((self.object.get("metadata") or {}).get("resourceVersion") or "")


class Client:
    """Reads and writes Kubernetes objects as JSON."""

    def __init__(
        self,
        api: ApiClient,
        *,
        timeout: float = 30.0,
        observer: Callable[[str, str, int, float], None] = lambda verb, resource, status, seconds: None,
    ) -> None:
        """Use a connected client of the official library, whose credentials refresh themselves.

        `observer` hears of every request: verb, resource, HTTP status (0 without an answer) and seconds.
        """
        self._api = api
        self._observer = observer
        self._timeout = timeout

    async def get(self, resource: Resource, namespace: str, name: str) -> Document | None:
        """Return an object as it is now, never from a cache; None if it does not exist."""
        try:
            found: Document = await self._call("GET", resource.path(namespace, name))
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return found | {"apiVersion": resource.api_version, "kind": resource.kind}

    async def list(
        self, resource: Resource, namespace: str | None, *, labels: str = "", fields: str = ""
    ) -> AsyncIterator[Document]:
        """Yield objects of a namespace, or of all, page by page."""
        async for page in self.pages(resource, namespace, labels=labels, fields=fields):
            for each in page.items:
                yield each

    async def pages(
        self, resource: Resource, namespace: str | None, *, labels: str = "", fields: str = "", limit: int = _PAGE
    ) -> AsyncIterator[Page]:
        """Yield the pages of a list, of at most `limit` objects each; there is at least one."""
        query = {"limit": str(limit), "labelSelector": labels, "fieldSelector": fields}
        while True:
            page = await self._call("GET", resource.path(namespace), query=query)
            meta = page.get("metadata") or {}
            yield Page(page.get("items") or [], meta.get("resourceVersion") or "")
            query["continue"] = meta.get("continue") or ""
            if not query["continue"]:
                return

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        version: str,
        labels: str = "",
        seconds: int,
        silence: float,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield what happens after a version, for some `seconds`; the first to come is a BOOKMARK once it is open.

        Raises `ApiError`, 410 when the version is too old, and TimeoutError after `silence` seconds without a byte:
        the server says something about once a minute.
        """
        query = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        query |= {"resourceVersion": version, "labelSelector": labels}
        timeout = aiohttp.ClientTimeout(total=seconds + _WATCH_MARGIN, sock_read=silence)
        response = await self._open_watch(resource.path(namespace), query, timeout)
        try:
            yield WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": version}})
            async for line in read_lines(response.content, _EVENT_BYTES):
                yield _event(line)
        finally:
            response.close()

    async def _open_watch(
        self, path: str, query: dict[str, str], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """Return the answer to a watch as soon as it has begun. The observer hears how long that took."""
        begun, status = time.monotonic(), 0
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._open("GET", path, query=query, timeout=timeout)
                response: aiohttp.ClientResponse = answer.response
                status = response.status
                if status >= HTTPStatus.BAD_REQUEST:
                    text = (await read_answer(response, _EVENT_BYTES)).decode(errors="replace")
                    raise ApiError(status, _message(text))
        finally:
            self._observer(*describe("GET", path, watch=True), status, time.monotonic() - begun)
        return response

    async def create(self, document: Document) -> None:
        """Create an object. Raises `AlreadyExistsError` if there is one of its name, whoever made it."""
        path = resource_of(document["kind"]).path(document["metadata"]["namespace"])
        try:
            await self._call("POST", path, query={"fieldManager": FIELD_MANAGER}, body=document)
        except ApiError as error:
            if error.status == HTTPStatus.CONFLICT:
                raise AlreadyExistsError(_subject(document)) from error
            if error.status in _REFUSALS:
                raise _refused(document, error) from error
            raise

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Delete the object of this uid; one that is gone, or another of the same name, is no error.

        A Job goes in the foreground: it is gone when its pods are.
        """
        propagation = "Foreground" if resource is JOBS else "Background"
        options = {"preconditions": {"uid": uid}, "propagationPolicy": propagation}
        try:
            await self._call("DELETE", resource.path(namespace, name), body=options)
        except ApiError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    async def set_finalizers(
        self, resource: Resource, namespace: str, name: str, finalizers: Sequence[str], version: str
    ) -> None:
        """Replace the finalizers of an object that has not changed since it was read in this version."""
        change = {"metadata": {"finalizers": [*finalizers], "resourceVersion": version}}
        query, content = {"fieldManager": FIELD_MANAGER}, "application/merge-patch+json"
        try:
            await self._call("PATCH", resource.path(namespace, name), query=query, body=change, content=content)
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    async def set_annotation(
        self, resource: Resource, namespace: str, name: str, uid: str, annotation: str, before: str | None, after: str
    ) -> Document | None:
        """Change an annotation of the object of this uid, and return the object; None if that object is gone.

        It goes through the subresource `status`, by which nothing of the spec can be changed. Raises `ChangedError` if
        the annotation is not what it was `before`, and `RefusedError`.
        """
        place = "/metadata/annotations/" + annotation.replace("~", "~0").replace("/", "~1")
        change: Sequence[Document] = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": place, "value": before},  # the server takes null for what is not there
            {"op": "add", "path": place, "value": after},
        ]
        path, query = resource.path(namespace, name) + "/status", {"fieldManager": FIELD_MANAGER}
        try:
            found: Document = await self._call(
                "PATCH", path, query=query, body=change, content="application/json-patch+json"
            )
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise _not_set(error, f"{resource.kind} {name}") from error
        return found

    async def apply(self, document: Document) -> None:
        """Create an object, or make it what the document says, by server-side apply."""
        await self._apply(document, "")

    async def apply_status(self, document: Document) -> None:
        """Write `status` by server-side apply. Nothing happens if the object, or the one of this uid, is gone."""
        try:
            await self._apply(document, "/status")
        except ApiError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    async def _apply(self, document: Document, subresource: str) -> None:
        meta = document["metadata"]
        path = resource_of(document["kind"]).path(meta["namespace"], meta["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        content = "application/apply-patch+yaml"  # JSON is YAML
        try:
            await self._call("PATCH", path + subresource, query=query, body=document, content=content)
        except ApiError as error:
            if error.status in _REFUSALS and not subresource:
                raise _refused(document, error) from error
            raise

    async def create_event(self, document: Document) -> None:
        """Create an event. One of the same name says the same, so it is left as it is."""
        try:
            await self._call("POST", EVENTS.path(document["metadata"]["namespace"]), body=document)
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise

    async def get_through_pod(
        self, namespace: str, pod: str, port: int, path: str, *, timeout: float, maximum: int | None = None
    ) -> str:
        """Return the answer of a pod's HTTP server, through the API server's proxy.

        Raises ValueError if it is longer than `maximum` bytes.
        """
        target = f"{PODS.path(namespace, pod)}:{port}/proxy{path}"
        return await self._request("GET", target, query={}, body=None, content=None, timeout=timeout, maximum=maximum)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: _Body | None = None,
        content: str | None = None,
    ) -> Any:
        text = await self._request(method, path, query=query or {}, body=body, content=content, timeout=self._timeout)
        return json.loads(text)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str],
        body: _Body | None,
        content: str | None,
        timeout: float,
        maximum: int | None = None,
    ) -> str:
        begun, status = time.monotonic(), 0
        try:
            response = await self._open(method, path, query=query, body=body, content=content, timeout=timeout)
            raw: bytes = await (read_answer(response.response, maximum) if maximum else response.read())
            status = response.status
        finally:
            self._observer(*describe(method, path), status, time.monotonic() - begun)
        text = raw.decode(errors="replace")
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise ApiError(response.status, _message(text))
        return text

    async def _open(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str],
        body: _Body | None = None,
        content: str | None = None,
        timeout: float | aiohttp.ClientTimeout,
    ) -> Any:
        """Send a request, and return the library's answer as soon as it has begun."""
        headers = {"Accept": "application/json", "Content-Type": content or "application/json"}
        request = await self._api.param_serialize(
            method,
            path,
            query_params=[(key, value) for key, value in query.items() if value],
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        return await self._api.call_api(*request, _request_timeout=timeout)


def _event(line: bytes) -> WatchEvent:
    """Read a line of a watch. Raises `ApiError` for one that says why the watch ends, ValueError for nonsense."""
    try:
        said = json.loads(line)
        event = WatchEvent(str(said["type"]), dict(said["object"]))
    except (KeyError, TypeError) as error:
        raise ValueError("a watch sent a line that is no event") from error
    if event.type == "ERROR":
        raise ApiError(int(event.object.get("code") or 0), str(event.object.get("message") or ""))
    return event


def _not_set(error: ApiError, subject: str) -> Exception:
    """Return why an annotation was not set."""
    if error.status in (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY):
        return ChangedError(error.message, invalid=error.status == HTTPStatus.UNPROCESSABLE_ENTITY)
    if error.status in _REFUSALS:
        return RefusedError(status=error.status, subject=subject, message=error.message)
    return error


def _message(text: str) -> str:
    """Return the message of the server's Status object."""
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:500]


def _subject(document: Document) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


def _refused(document: Document, error: ApiError) -> RefusedError:
    return RefusedError(status=error.status, subject=_subject(document), message=error.message)
