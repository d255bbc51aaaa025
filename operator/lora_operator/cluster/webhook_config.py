"""The webhook's entry at the API server: keeps this replica's authority among those that it trusts.

Nothing else of the entry is touched, and without one nothing is made: whether there is a webhook, and for which pods,
is decided by who installs it.
"""

import base64
import binascii
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from lora_operator.cluster.client import ApiError, Client, Resource
from lora_operator.cluster.permissions import WEBHOOK_NAME
from lora_operator.domain.bundle import merged_bundle
from lora_operator.domain.observed import Document

WEBHOOK_CONFIGURATIONS: Final = Resource(
    "admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations"
)
_ATTEMPTS: Final = 5
"""Replicas that start together change the same entry; each attempt reads it anew."""
_CHANGED_MEANWHILE: Final = frozenset({HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY})
"""A `test` that fails is answered with the second."""


class Published(StrEnum):
    """What became of an attempt to be trusted."""

    TRUSTED = "trusted"
    ABSENT = "absent"
    """There is no entry, or it calls no webhook of ours."""
    FORBIDDEN = "forbidden"


class WebhookConfigClient(Client):
    """Reads and writes one MutatingWebhookConfiguration."""

    async def publish(self, authority: bytes, now: datetime) -> Published:
        """Add an authority (PEM) to the entry, if it is not there. Raises `ApiError` if that has to be tried again."""
        for _ in range(_ATTEMPTS):
            try:
                found = await self.get(WEBHOOK_CONFIGURATIONS, "", WEBHOOK_NAME)
                if found is None or not found.get("webhooks"):
                    return Published.ABSENT
                operations = trust_operations(found, authority, now)
                if operations:
                    await self._patch(operations)
            except ApiError as error:
                if error.status == HTTPStatus.FORBIDDEN:
                    return Published.FORBIDDEN
                if error.status not in _CHANGED_MEANWHILE:
                    raise
            else:
                return Published.TRUSTED
        raise ApiError(HTTPStatus.CONFLICT, f"{WEBHOOK_NAME} was changed by others each time")

    async def _patch(self, operations: list[Document]) -> None:
        path, content = WEBHOOK_CONFIGURATIONS.path(None, WEBHOOK_NAME), "application/json-patch+json"
        await self._call("PATCH", path, body=operations, content=content)


def trust_operations(configuration: Document, authority: bytes, now: datetime) -> list[Document]:
    """Return the JSON patch that makes an authority trusted; empty if it is so already. Pure."""
    operations: list[Document] = []
    for index, webhook in enumerate(configuration["webhooks"]):
        text = (webhook.get("clientConfig") or {}).get("caBundle") or ""
        current = _decoded(text)
        wanted = merged_bundle(current, authority, now)
        if wanted != current:
            value = base64.b64encode(wanted).decode()
            operations.append({"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": value})
    if not operations:
        return []
    version = configuration["metadata"]["resourceVersion"]
    return [{"op": "test", "path": "/metadata/resourceVersion", "value": version}, *operations]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b""
