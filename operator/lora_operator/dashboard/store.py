"""What the dashboard remembers: of each object its row, and its page as finished bytes. Fed by watches.

It holds no objects: a parsed one takes several times the memory, and has parts that are not to be shown. It never
writes, and it raises nothing to those who feed it.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from lora_operator.dashboard.kinds import Kind

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Shown:
    row: Document
    detail: bytes


class Revision:
    """Counts changes, and wakes those who wait for the next one. One for all kinds."""

    def __init__(self) -> None:
        """Start at 0."""
        self.number = 0
        self._next = asyncio.Event()

    def advance(self) -> None:
        """Say that something has changed."""
        self.number += 1
        self._next.set()
        self._next = asyncio.Event()

    async def beyond(self, number: int) -> int:
        """Return the revision as soon as it is higher than `number`."""
        while self.number <= number:
            await self._next.wait()
        return self.number


class Store:
    """The objects of one kind; a `Consumer` of the watches."""

    def __init__(self, kind: Kind, revision: Revision) -> None:
        """Start empty."""
        self._kind = kind
        self._revision = revision
        self._shown: dict[tuple[str, str], _Shown] = {}

    def listed(self, document: Document) -> None:
        """Take an object as a list has it."""
        self.changed(document)

    def changed(self, document: Document) -> None:
        """Take an object that is new or has changed. A write that changes nothing on the page wakes nobody."""
        meta = document["metadata"]
        key = meta.get("namespace") or "", meta["name"]
        shown = _Shown(self._kind.row(document), encode(self._kind.detail(document)))
        if self._shown.get(key) != shown:
            self._shown[key] = shown
            self._revision.advance()

    def gone(self, namespace: str, name: str, uid: str) -> None:
        """Forget an object."""
        del uid
        if self._shown.pop((namespace, name), None) is not None:
            self._revision.advance()

    def rows(self) -> list[Document]:
        """Return all rows, in no order."""
        return [each.row for each in self._shown.values()]

    def detail(self, namespace: str, name: str) -> bytes | None:
        """Return the JSON of an object's page; None if there is no such object."""
        found = self._shown.get((namespace, name))
        return found.detail if found else None


def encode(value: Document) -> bytes:
    """Return JSON in plain ASCII, so that no character of a user's text means anything on the way."""
    return json.dumps(value, separators=(",", ":")).encode()
