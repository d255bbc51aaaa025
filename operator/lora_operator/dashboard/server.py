"""The HTTP side: files of the page, rows and pages as JSON, and a stream that says when to look again.

GET and nothing else. Every answer forbids scripts, frames and requests from elsewhere, so that a text of a user that
did become markup would still run nothing. No request is logged: its headers may hold a token.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from lora_operator.dashboard.assets import Asset, etag_of, read_assets
from lora_operator.dashboard.hosts import is_allowed
from lora_operator.dashboard.kinds import KINDS
from lora_operator.dashboard.query import QueryError, check_name, read_query, select
from lora_operator.dashboard.sources import Source, SourceError
from lora_operator.dashboard.store import Revision, encode

CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS: Final = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Server": "lora-dashboard",
}
MAX_STREAMS: Final = 64
"""Pages that hear of changes at once; each further one asks every few seconds instead."""
_QUIET_SECONDS: Final = 1.0
"""Between two words of a stream: a busy cluster changes many objects a second, and a page draws them all at once."""
_HEARTBEAT_SECONDS: Final = 20.0
_WRITE_SECONDS: Final = 30.0
"""After which a reader that takes nothing is given up."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]{1,7000}")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(source: Source, hosts: Collection[str] = ()) -> web.Application:
    """Return the application; `hosts` are names of the page besides those that a cluster gives it."""
    api = _Api(source)
    app = web.Application(middlewares=[_guard(frozenset(hosts))])
    app.on_response_prepare.append(_add_headers)
    assets = read_assets()
    routes = {"/": _file(assets["index.html"])}
    routes |= {f"/static/{name}": _file(asset) for name, asset in assets.items() if name != "index.html"}
    routes |= {"/api/events": api.events, "/api/{kind}": api.rows, "/api/{kind}/{namespace}/{name}": api.detail}
    app.add_routes([web.get(path, handler, allow_head=False) for path, handler in routes.items()])
    return app


def make_health_app(source: Source) -> web.Application:
    """Return /healthz and /readyz. A hung loop does not answer; an API server that is away needs no new start."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(_: web.Request) -> web.Response:
        ready = source.is_ready()
        return web.Response(text="ok" if ready else "not listed yet", status=200 if ready else 503)

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return app


class _Api:
    """Answers in JSON."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._streams = 0

    async def rows(self, request: web.Request) -> web.Response:
        """Return one page of the rows that fit the filters."""
        kind, query = _kind(request), read_query(request.query)
        listing = await self._source.rows(kind, query.namespace, _token(request))
        said = {"stale": listing.stale, "truncated": listing.truncated, "live": self._source.revision is not None}
        return _answer(request, encode(select(listing.rows, query) | said))

    async def detail(self, request: web.Request) -> web.Response:
        """Return all of one object's page."""
        kind = _kind(request)
        namespace, name = (check_name(request.match_info[each], each) for each in ("namespace", "name"))
        found = await self._source.detail(kind, namespace, name, _token(request))
        if found is None:
            raise SourceError(HTTPStatus.NOT_FOUND, f"There is no {name} in namespace {namespace}.")
        return _answer(request, found)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Stream the number of the revision, whenever it has grown: the page asks for what it shows by itself."""
        revision = self._source.revision
        if revision is None:
            raise SourceError(HTTPStatus.NOT_FOUND, "There is no stream; ask again every few seconds.")
        if self._streams >= MAX_STREAMS:
            raise SourceError(HTTPStatus.SERVICE_UNAVAILABLE, "There are too many streams; ask every few seconds.")
        self._streams += 1
        try:
            return await _stream(request, revision)
        finally:
            self._streams -= 1


async def _stream(request: web.Request, revision: Revision) -> web.StreamResponse:
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    told = -1
    try:
        while True:
            try:
                async with asyncio.timeout(_HEARTBEAT_SECONDS):
                    told = await revision.beyond(told)
                line = f"event: changed\ndata: {told}\n\n"
            except TimeoutError:
                line = ": still here\n\n"
            async with asyncio.timeout(_WRITE_SECONDS):
                await response.write(line.encode())
            await asyncio.sleep(_QUIET_SECONDS)
    except (ConnectionError, TimeoutError):
        return response  # the reader has gone, or takes nothing any more


def _guard(hosts: frozenset[str]) -> Any:
    """Refuse what is not a GET of this page by one of its names, and put errors into words for the page."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method != "GET":
            return _fault(HTTPStatus.METHOD_NOT_ALLOWED, "This page only answers GET.", {"Allow": "GET"})
        if not is_allowed(request.headers.get("Host", ""), hosts):
            return _fault(HTTPStatus.MISDIRECTED_REQUEST, "This page has another name; start it with --host.")
        try:
            return await handler(request)
        except QueryError as error:
            return _fault(HTTPStatus.BAD_REQUEST, str(error))
        except SourceError as error:
            asks = {"WWW-Authenticate": "Bearer"} if error.status is HTTPStatus.UNAUTHORIZED else {}
            return _fault(error.status, str(error), asks)
        except web.HTTPNotFound:
            return _fault(HTTPStatus.NOT_FOUND, "There is no such page.")

    return guard


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    del request
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")


def _file(asset: Asset) -> Handler:
    async def serve(request: web.Request) -> web.Response:
        headers = {"ETag": f'"{asset.etag}"', "Cache-Control": "no-cache"}
        if _is_known(request, asset.etag):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        return web.Response(body=asset.body, content_type=asset.content_type, charset="utf-8", headers=headers)

    return serve


def _answer(request: web.Request, body: bytes) -> web.Response:
    """Return JSON, or that it is what the page has already."""
    etag = etag_of(body)
    headers = {"ETag": f'"{etag}"', "Vary": "Authorization"}
    if _is_known(request, etag):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return web.Response(body=body, content_type="application/json", headers=headers)


def _fault(status: HTTPStatus, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = encode({"error": message})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _is_known(request: web.Request, etag: str) -> bool:
    return any(each.value == etag for each in request.if_none_match or ())


def _kind(request: web.Request) -> str:
    kind = request.match_info["kind"]
    if kind not in KINDS:
        raise SourceError(HTTPStatus.NOT_FOUND, "There is no such page.")
    return kind


def _token(request: web.Request) -> str | None:
    """Return the token that a proxy has put in front of the request."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" and _TOKEN.fullmatch(token) else None
