"""The two ways to the HTTP server of a pod. What answers is the user's program: it may be slow, or endless."""

from typing import Protocol, TypeVar

import aiohttp

from lora_api.names import PROGRESS_PATH, PROGRESS_PORT
from lora_operator.cluster.bodies import read_body
from lora_operator.cluster.client import Client

TIMEOUT = 2.0
"""Seconds to wait for a pod in the same cluster; a busy trainer answers from a thread of its own."""
_MAXIMUM_BYTES = 65_536


class Addressed(Protocol):
    """A pod that can be asked."""

    @property
    def name(self) -> str:
        """Name of the pod."""

    @property
    def ip(self) -> str:
        """Address of the pod."""


P_contra = TypeVar("P_contra", contravariant=True)


class Fetch(Protocol[P_contra]):
    """One way to a pod's HTTP server."""

    async def __call__(self, namespace: str, pod: P_contra) -> str:
        """Return the answer of a pod."""


class DirectFetch:
    """Asks the pod at its own address: from within the cluster."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        port: int = PROGRESS_PORT,
        path: str = PROGRESS_PATH,
        maximum: int = _MAXIMUM_BYTES,
    ) -> None:
        """Use a session of the caller, who closes it; an answer has at most `maximum` bytes."""
        self._session = session
        self._port = port
        self._path = path
        self._maximum = maximum

    async def __call__(self, namespace: str, pod: Addressed) -> str:
        """Return the answer of the pod. Raises ValueError when it is too long."""
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        url = f"http://{host}:{self._port}{self._path}"
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with self._session.get(url, timeout=timeout, allow_redirects=False) as response:
            response.raise_for_status()
            return (await read_body(response.content, self._maximum)).decode(errors="replace")


class ProxyFetch:
    """Asks the pod through the API server: from outside the cluster."""

    def __init__(
        self,
        client: Client,
        *,
        port: int = PROGRESS_PORT,
        path: str = PROGRESS_PATH,
        maximum: int = _MAXIMUM_BYTES,
    ) -> None:
        """Use a client, which has to be allowed `get` on `pods/proxy`; an answer has at most `maximum` bytes."""
        self._client = client
        self._port = port
        self._path = path
        self._maximum = maximum

    async def __call__(self, namespace: str, pod: Addressed) -> str:
        """Return the answer of the pod. Raises ValueError when it is too long."""
        return await self._client.get_through_pod(
            namespace, pod.name, self._port, self._path, timeout=TIMEOUT, maximum=self._maximum
        )
