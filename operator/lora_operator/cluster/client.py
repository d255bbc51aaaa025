"""The API server over HTTP: read, create, server-side apply, delete. The only place that knows status codes.

Objects are plain JSON, not the client's typed models: those cost several times the memory, and drop fields that they
do not know. What is not there is None; what the server refuses is `RefusedError`; everything else is `ApiError`.
"""

import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from kubernetes.aio.client import ApiClient

from lora_api.names import API_VERSION, FIELD_MANAGER
from lora_operator.cluster.requests import describe
from lora_operator.domain.errors import RefusedError
from lora_operator.domain.observed import Document

_PAGE: Final = 500
"""Objects a LIST request: at some 10 kB each, a page stays near 5 MB."""
_REFUSALS: Final = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
)


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of the API."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Return the path of the collection, or of one object."""
        root = "/api/v1" if self.api_version == "v1" else f"/apis/{self.api_version}"
        scope = f"/namespaces/{quote(namespace)}" if namespace else ""
        return f"{root}{scope}/{self.plural}" + (f"/{quote(name)}" if name else "")


LORAJOBS: Final = Resource(API_VERSION, "LoRAJob", "lorajobs")
LORAADAPTERS: Final = Resource(API_VERSION, "LoRAAdapter", "loraadapters")
SERVICES: Final = Resource("v1", "Service", "services")
PODS: Final = Resource("v1", "Pod", "pods")
EVENTS: Final = Resource("v1", "Event", "events")
JOBS: Final = Resource("batch/v1", "Job", "jobs")
WORKLOADS: Final = tuple(
    Resource(f"kueue.x-k8s.io/{version}", "Workload", "workloads") for version in ("v1beta2", "v1beta1")
)
"""Kueue's word on a Job, in the versions that a Kueue may serve; both have the same conditions."""
_BY_KIND: Final = {each.kind: each for each in (LORAJOBS, LORAADAPTERS, SERVICES, PODS, EVENTS, JOBS)}


def resource_of(kind: str) -> Resource:
    """Return the resource of a kind that the operator writes."""
    return _BY_KIND[kind]


class ApiError(Exception):
    """The API server did not do what it was asked, and asking again later may help."""

    def __init__(self, status: int, message: str) -> None:
        """Keep the HTTP status and the server's words."""
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class AlreadyExistsError(Exception):
    """An object that was not there when we looked is there now."""


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
        query = {"limit": str(_PAGE), "labelSelector": labels, "fieldSelector": fields}
        while True:
            page = await self._call("GET", resource.path(namespace), query=query)
            for each in page.get("items") or []:
                yield each
            query["continue"] = page.get("metadata", {}).get("continue") or ""
            if not query["continue"]:
                return

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

    async def get_through_pod(self, namespace: str, pod: str, port: int, path: str, *, timeout: float) -> str:
        """Return the answer of a pod's HTTP server, through the API server's proxy."""
        target = f"{PODS.path(namespace, pod)}:{port}/proxy{path}"
        return await self._request("GET", target, query={}, body=None, content=None, timeout=timeout)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Document | None = None,
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
        body: Document | None,
        content: str | None,
        timeout: float,
    ) -> str:
        headers = {"Accept": "application/json", "Content-Type": content or "application/json"}
        request = await self._api.param_serialize(
            method,
            path,
            query_params=[(key, value) for key, value in query.items() if value],
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        begun, status = time.monotonic(), 0
        try:
            response = await self._api.call_api(*request, _request_timeout=timeout)
            raw: bytes = await response.read()  # type: ignore[no-untyped-call]
            status = response.status
        finally:
            self._observer(*describe(method, path), status, time.monotonic() - begun)
        text = raw.decode(errors="replace")
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise ApiError(response.status, _message(text))
        return text


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
