"""The API server's audit log: who asked for what, when, and what was answered. The only clock of the benchmark.

A request is there once, when it is answered. The times are the server's own, to the microsecond.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "None", "userGroups": ["bench:silent"]},  # controllers of Kubernetes, scheduler, fake nodes
        {"level": "None", "nonResourceURLs": ["/*"]},
        {"level": "Metadata"},
    ],
}
_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_REFUSED = 400


@dataclass(frozen=True, slots=True)
class Request:
    """One answered request."""

    user: str
    verb: str
    resource: str
    """Plural, with the subresource after a slash."""
    namespace: str
    name: str
    code: int
    received: float
    """When it came in, in seconds since 1970."""
    answered: float

    @property
    def is_write(self) -> bool:
        """Whether it asked for a change. Leases are not of the workload."""
        return self.verb in _WRITES and not self.resource.startswith("leases")

    @property
    def succeeded(self) -> bool:
        """Whether the server did as it was asked."""
        return self.code < _REFUSED


class AuditLog:
    """The log as it grows."""

    def __init__(self, file: Path) -> None:
        """Read from a file."""
        self._file = file

    def mark(self) -> int:
        """Return the place where the log ends now."""
        return self._file.stat().st_size

    def since(self, mark: int) -> list[Request]:
        """Return all requests that were answered after a mark."""
        with self._file.open("rb") as log:
            if mark:
                log.seek(mark - 1)
                log.readline()  # the mark may lie within a line, which was written before it
            return list(_read(line for line in log if line.endswith(b"\n")))


def by_kind(requests: Iterable[Request]) -> Counter[str]:
    """Count requests by verb and resource."""
    return Counter(f"{each.verb} {each.resource}" for each in requests)


def _read(lines: Iterable[bytes]) -> Iterator[Request]:
    for line in lines:
        entry = json.loads(line)
        if entry["stage"] == "ResponseComplete" and "objectRef" in entry:
            yield _request(entry)


def _request(entry: dict[str, Any]) -> Request:
    about = entry["objectRef"]
    subresource = about.get("subresource")
    return Request(
        user=entry["user"]["username"],
        verb=entry["verb"],
        resource=about["resource"] + (f"/{subresource}" if subresource else ""),
        namespace=about.get("namespace", ""),
        name=about.get("name", ""),
        code=entry.get("responseStatus", {}).get("code", 0),
        received=_seconds(entry["requestReceivedTimestamp"]),
        answered=_seconds(entry["stageTimestamp"]),
    )


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
