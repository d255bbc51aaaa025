"""Kopf's part: watches that put keys into the queue, login, and settings. Handlers only translate, they decide nothing.

Only low-level event handlers are used. The others would write annotations and finalizers on the users' objects.
"""

from typing import Any

import kopf

from lora_api.names import GROUP, JOB_LABEL, VERSION
from lora_operator.app.session import Contact, open_session
from lora_operator.cluster.connect import read_credentials
from lora_operator.cluster.notices import Notices
from lora_operator.domain.children import job_of_work
from lora_operator.reconcile.keys import Key, Kind
from lora_operator.reconcile.news import Facts, News, job_facts, own_facts, pod_facts
from lora_operator.reconcile.queue import WorkQueue

_REQUEST_TIMEOUT = 30.0
_CONNECT_TIMEOUT = 10.0
_WATCH_TIMEOUT = 600
"""A watch is opened anew after ten minutes, so that a silent one cannot last. An integer: Kopf passes it on as it is,
and the API server takes no other."""
_BACKOFFS = (1.0, 1.0, 2.0, 3.0, *([5.0] * 10))
"""Pauses of a request that fails, 57 s in all like Kopf's own, but none so long that the return of an API server goes
unnoticed for it."""
_BURST = 0.3
"""Seconds that the events of children are gathered: a Job, its pod and the kubelet report the same step together."""


class _NoDiffs(kopf.DiffBaseStorage):
    """Keeps Kopf from copying every object three times to find a difference that nobody asks for."""

    def build(self, **_: Any) -> None:  # type: ignore[override]
        """Return nothing to compare with, and Kopf compares nothing."""

    def fetch(self, **_: Any) -> None:
        """Return nothing that was stored."""

    def store(self, **_: Any) -> None:
        """Store nothing."""


def operator_settings() -> kopf.OperatorSettings:
    """Return Kopf's settings: no scanning, no events of its own, only our children are watched."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.networking.request_timeout = _REQUEST_TIMEOUT
    settings.networking.connect_timeout = _CONNECT_TIMEOUT
    settings.networking.error_backoffs = _BACKOFFS
    settings.watching.server_timeout = _WATCH_TIMEOUT
    settings.watching.label_selectors["batch", "v1", "jobs"] = JOB_LABEL
    settings.watching.label_selectors["", "v1", "pods"] = JOB_LABEL
    settings.watching.field_selectors["", "v1", "events"] = "reason=FailedCreate,involvedObject.kind=Job"
    return settings


def register_handlers(registry: kopf.OperatorRegistry, queue: WorkQueue[Key], news: News, notices: Notices) -> None:
    """Put the key of whatever changes into the queue."""

    @kopf.on.event(GROUP, VERSION, "lorajobs", registry=registry)
    async def lorajob_changed(event: Any, namespace: str | None, name: str | None, **_: Any) -> None:
        if news.has(event, own_facts):
            queue.add(_key(Kind.LORAJOB, namespace, name))

    @kopf.on.event(GROUP, VERSION, "loraadapters", registry=registry)
    async def loraadapter_changed(event: Any, namespace: str | None, name: str | None, labels: Any, **_: Any) -> None:
        if news.has(event, own_facts):
            queue.add(_key(Kind.LORAADAPTER, namespace, name))
            queue.add_after(_key(Kind.LORAJOB, namespace, labels.get(JOB_LABEL) or name), _BURST)

    def child_changed(event: Any, facts: Facts, namespace: str | None, labels: Any) -> None:
        if JOB_LABEL in labels and news.has(event, facts):
            queue.add_after(_key(Kind.LORAJOB, namespace, labels[JOB_LABEL]), _BURST)

    @kopf.on.event("batch", "v1", "jobs", registry=registry)
    async def job_changed(event: Any, namespace: str | None, labels: Any, **_: Any) -> None:
        child_changed(event, job_facts, namespace, labels)

    @kopf.on.event("", "v1", "pods", registry=registry)
    async def pod_changed(event: Any, namespace: str | None, labels: Any, **_: Any) -> None:
        child_changed(event, pod_facts, namespace, labels)

    _register_refusals(registry, queue, notices)


def _register_refusals(registry: kopf.OperatorRegistry, queue: WorkQueue[Key], notices: Notices) -> None:
    """Take in which pods the Job controller could not make. Other Jobs than ours are heard of and never asked about."""

    @kopf.on.event("", "v1", "events", registry=registry)
    async def pod_refused(type: str | None, body: Any, namespace: str | None, **_: Any) -> None:  # noqa: A002 - Kopf's
        if type == "DELETED":
            return
        notices.hear(dict(body))
        if job := job_of_work((body.get("involvedObject") or {}).get("name") or ""):
            queue.add_after(_key(Kind.LORAJOB, namespace, job), _BURST)


def register_login(registry: kopf.OperatorRegistry, contact: Contact) -> None:
    """Let Kopf use our credentials, in a session that is followed by `contact`."""

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        found = await read_credentials()
        info = kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_path,
            insecure=found.insecure,
            scheme="Bearer" if found.token else None,
            token=found.token,
            certificate_path=found.certificate_path,
            private_key_path=found.private_key_path,
        )
        return open_session(info, contact)


def _key(kind: Kind, namespace: str | None, name: str | None) -> Key:
    return Key(kind, namespace or "", name or "")
