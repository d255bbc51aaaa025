"""Asks training pods how far they are, in the background: `GET /progress` at the pod's address.

A pass never waits for a pod. It gets the last known answer at once and so says that it cares; an answer that differs
from the one before wakes the job. A pod that does not answer is no error: the next look may succeed.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Protocol

import aiohttp

from lora_api.messages import Progress
from lora_api.names import PROGRESS_PATH, PROGRESS_PORT
from lora_operator.cluster.client import ApiError, Client
from lora_operator.cluster.rota import Entry, PodKey, Rota
from lora_operator.domain.numbers import load_finite
from lora_operator.domain.observed import PodView

_LOG = logging.getLogger(__name__)
_TIMEOUT = 2.0
"""Seconds to wait for a pod in the same cluster; a busy trainer answers from a thread of its own."""
_MAXIMUM_BYTES = 65_536
_FORGET_AFTER = 1_800.0
"""Seconds without a pass after which a pod is asked no more: two of the longest times between two resyncs."""


class Fetch(Protocol):
    """One way to a pod's HTTP server."""

    async def __call__(self, namespace: str, pod: PodView) -> str:
        """Return the answer of `GET /progress`."""


class DirectFetch:
    """Asks the pod at its own address: from within the cluster."""

    def __init__(self, session: aiohttp.ClientSession, *, port: int = PROGRESS_PORT) -> None:
        """Use a session of the caller, who closes it."""
        self._session = session
        self._port = port

    async def __call__(self, namespace: str, pod: PodView) -> str:
        """Return the answer of the pod. Raises ValueError when it is too long."""
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        url = f"http://{host}:{self._port}{PROGRESS_PATH}"
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
        async with self._session.get(url, timeout=timeout, allow_redirects=False) as response:
            response.raise_for_status()
            return (await _read(response.content)).decode(errors="replace")


async def _read(content: aiohttp.StreamReader) -> bytes:
    """Return the whole body. One read returns what has arrived so far, which may be a part of it."""
    body = b""
    async for part in content.iter_any():
        body += part
        if len(body) > _MAXIMUM_BYTES:
            raise ValueError(f"the answer is longer than {_MAXIMUM_BYTES} bytes")
    return body


class ProxyFetch:
    """Asks the pod through the API server: from outside the cluster."""

    def __init__(self, client: Client) -> None:
        """Use a client, which has to be allowed `get` on `pods/proxy`."""
        self._client = client

    async def __call__(self, namespace: str, pod: PodView) -> str:
        """Return the answer of the pod. Raises ValueError when it is too long."""
        text = await self._client.get_through_pod(namespace, pod.name, PROGRESS_PORT, PROGRESS_PATH, timeout=_TIMEOUT)
        if len(text) > _MAXIMUM_BYTES:
            raise ValueError(f"the answer is longer than {_MAXIMUM_BYTES} characters")
        return text


class ProgressReader:
    """Knows what running pods said last."""

    def __init__(
        self,
        fetch: Fetch,
        interval: float,
        on_news: Callable[[str, str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        forget_after: float = _FORGET_AFTER,
        observer: Callable[[bool], None] = lambda answered: None,
    ) -> None:
        """Ask by `fetch`, each pod every `interval` seconds.

        `on_news` gets namespace and name of a job whose pod said something new: at most once an interval for each job,
        which so bounds its status writes as well. `observer` hears of every question whether it was answered.
        """
        self._fetch = fetch
        self._on_news = on_news
        self._clock = clock
        self._observer = observer
        self._rota = Rota(interval, forget_after, chance)
        self._wake = asyncio.Event()

    @property
    def pods(self) -> int:
        """Pods that are asked."""
        return len(self._rota)

    def read(self, namespace: str, job: str, pod: PodView) -> Progress | None:
        """Return at once what the running pod of a job said last, None if nothing yet, and keep asking it."""
        entry, new = self._rota.want(PodKey(namespace, job), pod, self._clock())
        if new:
            self._wake.set()
        return entry.progress

    def forget(self, namespace: str, job: str) -> None:
        """Ask the pod of a job no more: it has ended, or the job is gone."""
        self._rota.forget(PodKey(namespace, job))

    async def run(self) -> None:
        """Ask for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                while (entry := self._rota.take(self._clock())) is not None:
                    group.create_task(self._ask(entry))
                await self._sleep()

    async def _ask(self, entry: Entry) -> None:
        progress = await self._answer(entry)
        news = self._rota.finish(entry, progress, self._clock())
        self._wake.set()
        self._observer(progress is not None)
        if news:
            self._on_news(*entry.key)

    async def _answer(self, entry: Entry) -> Progress | None:
        namespace, pod = entry.key.namespace, entry.pod
        try:
            async with asyncio.timeout(_TIMEOUT):
                return Progress.model_validate(load_finite(await self._fetch(namespace, pod)))
        except (aiohttp.ClientError, ApiError, TimeoutError, OSError, ValueError) as error:
            _LOG.debug("No progress of pod %s/%s: %s", namespace, pod.name, type(error).__name__)
            return None

    async def _sleep(self) -> None:
        """Wait until a pod is due, or anything changes."""
        self._wake.clear()
        try:
            async with asyncio.timeout(self._rota.wait(self._clock())):
                await self._wake.wait()
        except TimeoutError:
            pass
