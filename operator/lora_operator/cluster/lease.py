"""The Lease by which one of several replicas leads: what to do about it, and its reads and writes.

The rules are those of client-go. Clocks of two machines are never compared: a holder is gone when its record has not
changed for a whole lease duration as measured here. Every write names the version that it was decided on, so of two
replicas that decide the same, the API server lets one through.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final

from kubernetes.aio.client import ApiClient

from lora_operator.cluster.client import ApiError, Client, Resource
from lora_operator.domain.observed import Document

LEASES: Final = Resource("coordination.k8s.io/v1", "Lease", "leases")


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds. `renew_deadline` is shorter than `duration`: a leader stops before anybody may follow."""

    duration: float = 15.0
    renew_deadline: float = 10.0
    retry: float = 2.0
    request: float = 4.0
    """Longest time for one look and write; a connection that died silently leaves time for another try."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a Lease says."""

    holder: str
    renewed: str
    """By the clock of the holder: only ever compared with itself."""
    duration: float


@dataclass(frozen=True, slots=True)
class Sighting:
    """A record, or that there is none, and since when it looks like this."""

    record: Record | None
    since: float


class Move(StrEnum):
    """What a replica does about the Lease."""

    CREATE = "create"
    RENEW = "renew"
    TAKE = "take"
    WAIT = "wait"


def read_record(document: Document) -> Record:
    """Read a Lease."""
    spec: Mapping[str, Any] = document.get("spec") or {}
    return Record(
        holder=spec.get("holderIdentity") or "",
        renewed=spec.get("renewTime") or "",
        duration=float(spec.get("leaseDurationSeconds") or LeaseTimes().duration),
    )


def see(before: Sighting | None, record: Record | None, now: float) -> Sighting:
    """Return what is seen now: an unchanged record keeps the time since when it has been so."""
    return before if before is not None and before.record == record else Sighting(record, now)


def decide(seen: Sighting, identity: str, now: float) -> Move:
    """Return what the replica of an identity does about what it has seen."""
    record = seen.record
    if record is None:
        return Move.CREATE
    if record.holder == identity:
        return Move.RENEW
    if not record.holder or now - seen.since >= record.duration:
        return Move.TAKE
    return Move.WAIT


def next_spec(move: Move, before: Document, identity: str, times: LeaseTimes, now: datetime) -> Document:
    """Return the spec that a move writes, given the one that is there."""
    spec = before | {
        "holderIdentity": identity,
        "leaseDurationSeconds": int(times.duration),
        "renewTime": _micro_time(now),
    }
    if move is not Move.RENEW:
        spec |= {"acquireTime": _micro_time(now), "leaseTransitions": before.get("leaseTransitions", -1) + 1}
    return spec


def released_spec(before: Document, now: datetime) -> Document:
    """Return the spec of a Lease that nobody holds: whoever sees it takes it at once."""
    kept = {key: value for key, value in before.items() if key != "holderIdentity"}
    return kept | {"leaseDurationSeconds": 1, "renewTime": _micro_time(now)}


def _micro_time(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class LeaseClient(Client):
    """Reads and writes one Lease. It has a connection of its own, so that busy passes never delay a renewal."""

    async def read(self, namespace: str, name: str) -> Document | None:
        """Return the Lease, or None."""
        return await self.get(LEASES, namespace, name)

    async def write(self, document: Document) -> bool:
        """Create or replace a Lease. Returns False if another replica was quicker."""
        meta = document["metadata"]
        exists = "resourceVersion" in meta
        path = LEASES.path(meta["namespace"], meta["name"] if exists else None)
        try:
            await self._call("PUT" if exists else "POST", path, body=document)
        except ApiError as error:
            if error.status == HTTPStatus.CONFLICT:
                return False
            raise
        return True


class NotLeadingError(Exception):
    """A write was not sent, because this replica does not lead any more."""


class FencedClient(Client):
    """A client that writes only while this replica leads, asked anew for each request."""

    def __init__(self, api: ApiClient, may_write: Callable[[], bool], **options: Any) -> None:
        """`may_write` must answer at once and from a local clock: what an API server said is already old."""
        super().__init__(api, **options)
        self._may_write = may_write

    async def _request(self, method: str, path: str, **options: Any) -> str:
        if method != "GET" and not self._may_write():
            raise NotLeadingError(f"{method} {path} is not sent: this replica does not hold the Lease")
        return await super()._request(method, path, **options)
