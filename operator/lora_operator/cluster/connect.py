"""Credentials: from the pod's ServiceAccount, else from the kubeconfig. Read once here, for our client and for Kopf."""

from dataclasses import dataclass
from typing import Any

from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to reach the API server, in plain values."""

    server: str
    ca_path: str | None
    insecure: bool
    token: str | None
    certificate_path: str | None
    private_key_path: str | None


class PlainClient(ApiClient):
    """A client whose bodies are plain JSON already: the walk through each of them costs more than sending it."""

    def sanitize_for_serialization(self, obj: Any) -> Any:
        """Return the body as it is."""
        return obj


async def connect() -> ApiClient:
    """Return a client that keeps its token fresh."""
    return PlainClient(configuration=await _load())


async def read_credentials() -> Credentials:
    """Return the credentials as they are now; read again after the server has refused the last ones."""
    configuration = await _load()
    header = await configuration.get_api_key_with_prefix("BearerToken")
    return Credentials(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        token=header.split(" ", 1)[-1] if header else None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )


async def _load() -> Configuration:
    configuration = Configuration()
    # Looking for a netrc file and a proxy takes two threads for each request; the API server is never behind one.
    configuration.client_session_kwargs = {"trust_env": False}
    try:
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except ConfigException:
        await load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    return configuration
