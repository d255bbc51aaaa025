"""Collects what an explanation needs of a LoRAJob or a LoRAAdapter. What may not be read is named, and left out."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from lora_api.names import JOB_LABEL, RUN_LABEL, STAGE_LABEL, TRAINER_CONTAINER
from lora_cli.cluster.connection import (
    EVENTS,
    JOBS,
    LORAADAPTERS,
    LORAJOBS,
    PODS,
    Cluster,
    Document,
    ForbiddenError,
    LogNotReadyError,
    Resource,
)
from lora_cli.errors import CliError, failed, wrong_usage
from lora_cli.explain.snapshot import Snapshot
from lora_cli.render.log_line import pretty

T = TypeVar("T")
_LOG_LINES = 5
_PODS_WITH_EVENTS = 3
_KINDS = {
    "lorajob": LORAJOBS, "lorajobs": LORAJOBS, "lj": LORAJOBS,
    "loraadapter": LORAADAPTERS, "loraadapters": LORAADAPTERS, "la": LORAADAPTERS,
}  # fmt: skip


class Collector:
    """Reads one object and what belongs to it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._unread: list[str] = []

    def named(self, name: str) -> list[tuple[Resource, Document]]:
        """Return the LoRAJob and the LoRAAdapter of a name; `kind/name` means one of them. Raises `CliError`."""
        kind, _, bare = name.rpartition("/")
        if kind and kind.lower() not in _KINDS:
            raise wrong_usage(f"{kind!r} is no kind of ours", "write NAME, lorajob/NAME or loraadapter/NAME")
        kinds = [_KINDS[kind.lower()]] if kind else [LORAJOBS, LORAADAPTERS]
        found = [(each, document) for each in kinds if (document := self._object(each, bare, alone=bool(kind)))]
        if not found:
            what = " or ".join(each.kind for each in kinds)
            space = self._cluster.namespace
            raise failed(
                f'there is no {what} "{bare}" in namespace {space}', "`kubectl lora list -A` and `adapters -A` show all"
            )
        return found

    def _object(self, resource: Resource, name: str, *, alone: bool) -> Document | None:
        if alone or resource is LORAJOBS:
            return self._cluster.get(resource, name)
        return self._allowed(lambda: self._cluster.get(resource, name), None)

    def snapshot(self, resource: Resource, document: Document) -> Snapshot:
        """Return the snapshot of an object."""
        return self._of_job(document) if resource is LORAJOBS else self._of_adapter(document)

    def _of_job(self, document: Document) -> Snapshot:
        name, run = document["metadata"]["name"], (document.get("status") or {}).get("run")
        selector = f"{JOB_LABEL}={name}" + (f",{RUN_LABEL}={run}" if run else "")
        jobs = sorted(self._list(JOBS, selector), key=_stage)
        pods = sorted(self._list(PODS, selector), key=_created)
        about = [(document, "LoRAJob"), *((each, "Job") for each in jobs)]
        about += [(each, "Pod") for each in pods[-_PODS_WITH_EVENTS:]]
        return Snapshot(
            document=document,
            now=datetime.now(UTC),
            jobs=tuple(jobs),
            pods=tuple(pods),
            events=tuple(self._events(about)),
            log=tuple(self._last_lines(pods[-1])) if pods else (),
            unread=tuple(self._unread),
        )

    def _of_adapter(self, document: Document) -> Snapshot:
        # Only where nobody asks for it: a pod that means to, and lacks the label, is seen in the whole list alone.
        lonely = (document.get("status") or {}).get("desiredPods") == 0
        pods = self._list(PODS, "") if lonely else []
        events = tuple(self._events([(document, "LoRAAdapter")]))
        return Snapshot(document, datetime.now(UTC), pods=tuple(pods), events=events, unread=tuple(self._unread))

    def _list(self, resource: Resource, selector: str) -> list[Document]:
        return self._allowed(lambda: self._cluster.list(resource, selector=selector), [])

    def _events(self, about: list[tuple[Document, str]]) -> list[Document]:
        found: list[Document] = []
        for each, kind in about:
            fields = f"involvedObject.name={each['metadata']['name']},involvedObject.kind={kind}"
            found += self._allowed(lambda: self._cluster.list(EVENTS, fields=fields), [])  # noqa: B023 - now
        return sorted(found, key=_last_seen)

    def _last_lines(self, pod: Document) -> list[str]:
        try:
            return [pretty(each) for each in self._cluster.log(pod, TRAINER_CONTAINER, tailLines=str(_LOG_LINES))]
        except LogNotReadyError:
            return []
        except ForbiddenError as error:
            self._note(error)
            return []

    def _allowed(self, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except ForbiddenError as error:
            self._note(error)
            return otherwise

    def _note(self, error: CliError) -> None:
        if str(error) not in self._unread:
            self._unread.append(str(error))


def _created(document: Document) -> tuple[str, str]:
    return document["metadata"].get("creationTimestamp") or "", document["metadata"]["name"]


def _stage(job: Document) -> str:
    return str((job["metadata"].get("labels") or {}).get(STAGE_LABEL, ""))


def _last_seen(event: Document) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")
