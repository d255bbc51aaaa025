"""Tells which watch events say something new, so that an object's irrelevant changes cost no pass.

The operator's own status writes come back as events; so do heartbeats, probe times and field managers, and after a
start the list of all children, most of which a pass has read meanwhile. Of each live object a digest of what a pass
would read is kept. When in doubt an event is news: a pass too many only reads.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from lora_operator.domain.observed import Document, ObservedJob
from lora_operator.domain.reading import read_pod, read_work

_NOBODY = ObservedJob(namespace="", name="", uid="", generation=0, spec=None)
_DIGEST_BYTES = 8

Facts = Callable[[Document], object]
"""Returns what matters of an object; only compared with itself."""


def own_facts(document: Document) -> object:
    """Return what users say with a LoRAJob or LoRAAdapter. A status is written by the operator alone."""
    return document["metadata"].get("generation"), _metadata_facts(document)


def job_facts(document: Document) -> object:
    """Return what a pass reads of a Job."""
    return read_work(document, _NOBODY, ()), _metadata_facts(document)


def pod_facts(document: Document) -> object:
    """Return what a pass reads of a pod."""
    return read_pod(document), _metadata_facts(document)


def _metadata_facts(document: Document) -> object:
    metadata = document["metadata"]
    named = ("deletionTimestamp", "labels", "annotations", "finalizers", "ownerReferences")
    return [metadata.get(key) for key in named]


class News:
    """Remembers a digest of each live object, by its uid."""

    def __init__(self) -> None:
        """Know nothing: the first event of each object is news."""
        self._known: dict[str, bytes] = {}

    def has(self, event: Mapping[str, Any], facts: Facts) -> bool:
        """Return whether an event says something new. What is deleted always does."""
        document = event["object"]
        if event["type"] == "DELETED":
            self._known.pop(_uid(document), None)
            return True
        digest = _digest(facts(document))
        known = self._known.get(_uid(document))
        self._known[_uid(document)] = digest
        return known != digest

    def read(self, document: Document, facts: Facts) -> None:
        """Take in what a pass has just read: the event that says the same comes too late to be news."""
        self._known[_uid(document)] = _digest(facts(document))

    def forget(self) -> None:
        """Forget everything. Objects that vanished while nobody watched would stay here for ever."""
        self._known.clear()

    def __len__(self) -> int:
        return len(self._known)


def _uid(document: Document) -> str:
    return str(document["metadata"].get("uid", ""))


def _digest(facts: object) -> bytes:
    return hashlib.blake2b(repr(facts).encode(), digest_size=_DIGEST_BYTES).digest()
