"""The pod webhook: an HTTPS server in every replica, and the loop that keeps its certificate fresh and trusted.

It serves whether or not the replica leads, and begins before the election: pods are made at any time. It is optional;
where nobody has installed its entry at the API server, nothing calls it and nothing fails.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from aiohttp import web

from lora_operator.app.admission import NotAReviewError, Reviewer
from lora_operator.app.certificates import Certificate, CertificateError, Rotating, make_certificate, read_certificate
from lora_operator.app.probes import Health
from lora_operator.cluster.client import LORAADAPTERS, Client
from lora_operator.cluster.webhook_config import Published
from lora_operator.domain.observed import Document

_LOG = logging.getLogger(__name__)
PATH: Final = "/inject"
PART: Final = "webhook"
"""What the replica's readiness waits for."""
_BODY_BYTES: Final = 3 * 1024 * 1024
"""The API server takes no larger object, and etcd not even half of it."""
_FEW: Final = 16
"""LoRAAdapters that are read one by one: cheaper than all of a namespace."""
_CHECK_SECONDS: Final = 60.0
_ABSENT_SECONDS: Final = 10.0
"""Pause while there is no entry: it is often installed a moment after the operator."""
_AGAIN_SECONDS: Final = 5.0
"""Pause after an attempt that failed."""
_FILES_SECONDS: Final = 10.0
"""Pause between two looks at a certificate's files."""
_STUCK_SECONDS: Final = 300.0
_DRAIN_SECONDS: Final = 3.0
"""Time for which a replica that ends still serves: until then the API server may not have heard of its end."""
_ANY_ADDRESS: Final = ("0.0.0.0", "::", "")  # noqa: S104 - compared only

Sleep = Callable[[float], Awaitable[None]]
Clock = Callable[[], datetime]


class Authorities(Protocol):
    """Where the API server's trust is written."""

    async def publish(self, authority: bytes, now: datetime) -> Published:
        """Make an authority trusted."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the webhook listens, and how it ends."""

    address: str
    port: int
    drain_seconds: float = _DRAIN_SECONDS


def server_names(service: str, namespace: str, address: str) -> list[str]:
    """Return the names by which the webhook is called: by its Service, or outside a cluster by its address."""
    names = [f"{service}.{namespace}.svc", f"{service}.{namespace}", f"{service}.{namespace}.svc.cluster.local"]
    return names if address in _ANY_ADDRESS else [*names, address]


async def read_adapters(client: Client, namespace: str, names: Sequence[str]) -> list[Document]:
    """Return those LoRAAdapters of some names that exist: few of them one by one, many by one list."""
    if len(names) <= _FEW:
        found = await asyncio.gather(*(client.get(LORAADAPTERS, namespace, each) for each in names))
        return [each for each in found if each is not None]
    return [each async for each in client.list(LORAADAPTERS, namespace) if each["metadata"]["name"] in names]


@asynccontextmanager
async def serve_webhook(
    reviewer: Reviewer, upkeep: "OwnCertificate | GivenCertificate", health: Health, listen: Listen
) -> AsyncIterator[None]:
    """Serve the webhook, and keep its certificate in order."""
    health.await_part(PART)
    app = web.Application(client_max_size=_BODY_BYTES)
    app.add_routes([web.post(PATH, _handler(reviewer))])
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, listen.address, listen.port, ssl_context=upkeep.serving.context).start()
    health.expect("lastWebhookCheckSeconds", lambda: upkeep.age, _STUCK_SECONDS)
    loop = asyncio.create_task(upkeep.keep(lambda: health.has_part(PART)), name="webhook")
    try:
        yield
        await asyncio.sleep(listen.drain_seconds)
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        await runner.cleanup()


def _handler(reviewer: Reviewer) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            answer = await reviewer.answer(await request.read())
        except NotAReviewError as error:
            return web.Response(status=400, text=f"{error}\n")
        return web.json_response(answer)

    return handle


class _Upkeep:
    """The loop of both kinds of certificates: it never ends, whatever fails."""

    def __init__(self, serving: Rotating, sleep: Sleep) -> None:
        self.serving = serving
        self._sleep = sleep
        self._looked = time.monotonic()
        self._said = ""

    @property
    def age(self) -> float:
        """Seconds since the last look, failed ones included."""
        return time.monotonic() - self._looked

    async def keep(self, on_settled: Callable[[], None]) -> None:
        """Look again and again. `on_settled` is called when the webhook can be called, or nobody is going to."""
        while True:
            self._looked = time.monotonic()
            try:
                pause = await self.look()
                on_settled()
            except Exception as error:
                self._say(logging.WARNING, f"The webhook's certificate: {error or type(error).__name__}")
                pause = _AGAIN_SECONDS
            await self._sleep(pause)

    async def look(self) -> float:
        """Do what is due, and return the seconds until the next look."""
        raise NotImplementedError

    def _say(self, level: int, text: str) -> None:
        """Log something once, however often it is met in a row."""
        if text != self._said:
            _LOG.log(level, text)
        self._said = text


class OwnCertificate(_Upkeep):
    """A certificate of this replica's own making, and its authority among those that the API server trusts."""

    def __init__(
        self,
        names: Sequence[str],
        identity: str,
        authorities: Authorities,
        now: Clock = lambda: datetime.now(UTC),
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Make the first certificate."""
        self._names, self._identity, self._authorities, self._now = names, identity, authorities, now
        self._current = self._make()
        self._next: Certificate | None = None
        super().__init__(Rotating(self._current), sleep)

    def _make(self) -> Certificate:
        return make_certificate(self._names, self._identity, self._now())

    async def look(self) -> float:
        """Publish the authority if it is not there. A new one is published one look before it is used."""
        now = self._now()
        if self._next is not None:
            self._current, self._next = self._next, None
            self.serving.replace(self._current)
            _LOG.info("The webhook serves with a new certificate")
        if self._current.has_ended(now):  # the process slept for days: nobody is served by the old one
            self._current = self._make()
            self.serving.replace(self._current)
        published = await self._authorities.publish(self._current.authority, now)
        self._report(published)
        if self._current.is_old(now):
            upcoming = self._make()
            await self._authorities.publish(upcoming.authority, now)
            self._next = upcoming
        return _ABSENT_SECONDS if published is Published.ABSENT else _CHECK_SECONDS

    def _report(self, published: Published) -> None:
        level, text = {
            Published.TRUSTED: (logging.INFO, "The API server trusts the webhook"),
            Published.ABSENT: (logging.INFO, "No MutatingWebhookConfiguration calls the webhook; it waits for one"),
            Published.FORBIDDEN: (
                logging.ERROR,
                "The webhook is not trusted: the operator may not patch its MutatingWebhookConfiguration",
            ),
        }[published]
        self._say(level, text)


class GivenCertificate(_Upkeep):
    """A certificate of a folder, which somebody else renews. Whom the API server trusts is their business, too."""

    def __init__(self, folder: Path, sleep: Sleep = asyncio.sleep) -> None:
        """Read the certificate. Raises `CertificateError`."""
        self._folder = folder
        self._current = read_certificate(folder)
        super().__init__(Rotating(self._current), sleep)

    async def look(self) -> float:
        """Take what is new. What cannot be used changes nothing: files may be half written."""
        try:
            found = await asyncio.to_thread(read_certificate, self._folder)
        except CertificateError as error:
            self._say(logging.WARNING, f"{error}; the one of before is kept")
            return _FILES_SECONDS
        if found != self._current:
            self._current = found
            self.serving.replace(found)
            self._say(logging.INFO, f"The webhook serves with a new certificate of {self._folder}")
        return _FILES_SECONDS
