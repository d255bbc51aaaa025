"""Asks training pods how far they are: `GET /progress` at the pod's address.

A pod is asked at most once an interval and its answer kept in between, so that a pass that something else caused costs
nothing. A pod that does not answer is no error: the next look may succeed.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

import aiohttp

from lora_api.messages import Progress
from lora_api.names import PROGRESS_PATH, PROGRESS_PORT
from lora_operator.cluster.client import ApiError, Client
from lora_operator.domain.numbers import load_finite
from lora_operator.domain.observed import PodView

_LOG = logging.getLogger(__name__)
_TIMEOUT = 2.0
"""Seconds to wait for a pod in the same cluster; a busy trainer answers from a thread of its own."""
_CONCURRENCY = 32
_MAXIMUM_BYTES = 65_536
_FORGET_AFTER = 600.0


class Fetch(Protocol):
    """One way to a pod's HTTP server."""

    async def __call__(self, namespace: str, pod: PodView) -> str:
        """Return the answer of `GET /progress`."""


class DirectFetch:
    """Asks the pod at its own address: from within the cluster."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        """Use a session of the caller, who closes it."""
        self._session = session

    async def __call__(self, namespace: str, pod: PodView) -> str:
        """Return the answer of the pod."""
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        url = f"http://{host}:{PROGRESS_PORT}{PROGRESS_PATH}"
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
        async with self._session.get(url, timeout=timeout, allow_redirects=False) as response:
            response.raise_for_status()
            return (await response.content.read(_MAXIMUM_BYTES)).decode(errors="replace")


class ProxyFetch:
    """Asks the pod through the API server: from outside the cluster."""

    def __init__(self, client: Client) -> None:
        """Use a client, which has to be allowed `get` on `pods/proxy`."""
        self._client = client

    async def __call__(self, namespace: str, pod: PodView) -> str:
        """Return the answer of the pod."""
        return await self._client.get_through_pod(namespace, pod.name, PROGRESS_PORT, PROGRESS_PATH, timeout=_TIMEOUT)


class ProgressReader:
    """Reads the progress of pods, each at most once an interval."""

    def __init__(self, fetch: Fetch, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Ask by `fetch`, at most every `interval` seconds a pod."""
        self._fetch = fetch
        self._interval = interval
        self._clock = clock
        self._known: dict[str, tuple[float, Progress | None]] = {}
        self._slots = asyncio.Semaphore(_CONCURRENCY)

    async def read(self, namespace: str, pod: PodView) -> Progress | None:
        """Return the newest progress of a running pod; None when it has not said any."""
        asked, progress = self._known.get(pod.uid, (None, None))
        if asked is not None and self._clock() - asked < self._interval * 0.9:
            return progress
        async with self._slots:
            progress = await self._ask(namespace, pod) or progress
        self._known[pod.uid] = (self._clock(), progress)
        self._forget()
        return progress

    async def _ask(self, namespace: str, pod: PodView) -> Progress | None:
        try:
            return Progress.model_validate(load_finite(await self._fetch(namespace, pod)))
        except (aiohttp.ClientError, ApiError, TimeoutError, OSError, ValueError) as error:
            _LOG.debug("No progress of pod %s/%s: %s", namespace, pod.name, error)
            return None

    def _forget(self) -> None:
        oldest = self._clock() - _FORGET_AFTER
        for uid in [uid for uid, (asked, _) in self._known.items() if asked < oldest]:
            del self._known[uid]
