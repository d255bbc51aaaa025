"""Kopf's part: watches that put keys into the queue, login, and settings. Handlers only translate, they decide nothing.

Only low-level event handlers are used. The others would write annotations and finalizers on the users' objects.
"""

from typing import Any

import kopf

from lora_api.names import GROUP, JOB_LABEL, VERSION
from lora_operator.cluster.connect import read_credentials
from lora_operator.reconcile.keys import Key, Kind
from lora_operator.reconcile.queue import WorkQueue

_REQUEST_TIMEOUT = 30.0
_WATCH_TIMEOUT = 600
"""A watch is opened anew after ten minutes, so that a silent one cannot last. An integer: Kopf passes it on as it is,
and the API server takes no other."""


def operator_settings() -> kopf.OperatorSettings:
    """Return Kopf's settings: no scanning, no events of its own, only our children are watched."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.networking.request_timeout = _REQUEST_TIMEOUT
    settings.watching.server_timeout = _WATCH_TIMEOUT
    settings.watching.label_selectors["batch", "v1", "jobs"] = JOB_LABEL
    settings.watching.label_selectors["", "v1", "pods"] = JOB_LABEL
    return settings


def register_handlers(registry: kopf.OperatorRegistry, queue: WorkQueue[Key]) -> None:
    """Put the key of whatever changes into the queue."""

    @kopf.on.event(GROUP, VERSION, "lorajobs", registry=registry)
    async def lorajob_changed(namespace: str | None, name: str | None, **_: Any) -> None:
        queue.add(_key(Kind.LORAJOB, namespace, name))

    @kopf.on.event(GROUP, VERSION, "loraadapters", registry=registry)
    async def loraadapter_changed(namespace: str | None, name: str | None, labels: Any, **_: Any) -> None:
        queue.add(_key(Kind.LORAADAPTER, namespace, name))
        queue.add(_key(Kind.LORAJOB, namespace, labels.get(JOB_LABEL) or name))

    @kopf.on.event("batch", "v1", "jobs", registry=registry)
    @kopf.on.event("", "v1", "pods", registry=registry)
    async def child_changed(namespace: str | None, labels: Any, **_: Any) -> None:
        if JOB_LABEL in labels:
            queue.add(_key(Kind.LORAJOB, namespace, labels[JOB_LABEL]))

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        found = await read_credentials()
        return kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_path,
            insecure=found.insecure,
            scheme="Bearer" if found.token else None,
            token=found.token,
            certificate_path=found.certificate_path,
            private_key_path=found.private_key_path,
        )


def _key(kind: Kind, namespace: str | None, name: str | None) -> Key:
    return Key(kind, namespace or "", name or "")
