"""Reads of the API server with the token of whoever looks at the page, over connections that carry no identity.

The credentials of the dashboard itself are left behind: without the viewer's token a request has none. A token lives as
long as the request that brought it, and is not written anywhere.
"""

from typing import Any, cast

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration

from lora_operator.cluster.client import Client
from lora_operator.cluster.connect import PlainClient, read_credentials

_TIMEOUT_SECONDS = 15.0
"""Shorter than that of a controller: somebody waits in front of the page."""


class Viewers:
    """Makes a client for each viewer; all share one pool of connections."""

    def __init__(self, api: ApiClient) -> None:
        """Use a client that has an address and no credentials, see `connect_anonymously`."""
        self._api = api

    def client(self, token: str) -> Client:
        """Return a client whose every request carries this token."""
        return Client(cast("ApiClient", _Bearer(self._api, token)), timeout=_TIMEOUT_SECONDS)


async def connect_anonymously() -> ApiClient:
    """Return a client for the same API server as ours, without our credentials and without cookies."""
    ours = await read_credentials()
    configuration = Configuration(host=ours.server, ssl_ca_cert=ours.ca_path, verify_ssl=not ours.insecure)
    configuration.client_session_kwargs = {"trust_env": False, "cookie_jar": aiohttp.DummyCookieJar()}
    return PlainClient(configuration=configuration)


class _Bearer:
    """The part of the library's client that ours uses, with one viewer's token in each request."""

    def __init__(self, api: ApiClient, token: str) -> None:
        self._api = api
        self._auth = {"type": "bearer", "in": "header", "key": "Authorization", "value": f"Bearer {token}"}

    async def param_serialize(self, *arguments: Any, **options: Any) -> Any:
        return await self._api.param_serialize(*arguments, **(options | {"_request_auth": self._auth}))

    async def call_api(self, *arguments: Any, **options: Any) -> Any:
        return await self._api.call_api(*arguments, **options)
