"""An inference pod as decisions see it, and the text by which it is told what to serve.

Tolerant where others write (any field may be missing, any annotation may be nonsense), and frugal: of hundreds of
adapters in dozens of pods most entries are equal, so equal ones are one object. Nothing here decides.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final
from weakref import WeakValueDictionary

from pydantic import ValidationError

from lora_api.delivery import MAX_ADAPTERS, AgentStatus, Desired, DesiredAdapter
from lora_api.names import ADAPTERS_ANNOTATION, AGENT_CONTAINER, DESIRED_ANNOTATION, INJECTED_ANNOTATION
from lora_operator.domain.observed import Document

MAX_DESIRED_BYTES: Final = 200 * 1024
"""Of the 256 KiB that the API server allows all annotations of an object together."""
_OBJECT_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_MAX_NAME: Final = 253
_MAX_NOTES: Final = 16
_MAX_TEXT: Final = 1024
_NOTHING: Final[Mapping[str, DesiredAdapter]] = MappingProxyType({})
_KNOWN: Final[WeakValueDictionary[str, DesiredAdapter]] = WeakValueDictionary()
"""Entries that some pod has now, by their JSON: each is validated once, and is one object in all pods."""


class TooMuchError(ValueError):
    """A pod would be told more than it can be told. The message says how much it is."""


@dataclass(frozen=True, slots=True)
class InferencePod:
    """One pod with the label `lora-operator.io/inject`."""

    namespace: str
    name: str
    uid: str
    node: str = ""
    ip: str = ""
    adapters: tuple[str, ...] = ()
    """LoRAAdapters that its author asks for, in this order."""
    desired: Mapping[str, DesiredAdapter] = field(default_factory=lambda: _NOTHING)
    """What it is told to serve, by the name of the LoRAAdapter; without entries that cannot be read."""
    desired_text: str | None = None
    """The annotation that says so; None if it has never been told anything."""
    injected: bool = False
    """Whether it has an agent."""
    engine: str = ""
    """As the webhook made it out; empty if it did not."""
    notes: tuple[tuple[str, str], ...] = ()
    """What the webhook could not do: reason and message."""
    running: bool = False
    """Whether the agent's container runs. While it fetches what the engine is to start with, the phase is Pending."""
    deleting: bool = False
    ended: bool = False
    created: str = ""
    """Creation time as text, which sorts by time."""

    @property
    def concerns(self) -> frozenset[str]:
        """LoRAAdapters that it asks for, and those that it is told to serve all the same."""
        return frozenset(self.adapters) | frozenset(self.desired)


@dataclass(frozen=True, slots=True)
class AgentReport:
    """What is known of a pod's agent."""

    status: AgentStatus | None = None
    """Its last answer, None if there was none yet."""
    silent_seconds: float | None = None
    """Since when it does not answer; None if it answered the last question, or was not asked yet."""


def read_inference_pod(document: Document, before: InferencePod | None = None) -> InferencePod:
    """Read a pod. What `before` knew of the same annotation is taken from there and not parsed again."""
    meta, spec, status = document["metadata"], document.get("spec") or {}, document.get("status") or {}
    annotations = meta.get("annotations") or {}
    text = annotations.get(DESIRED_ANNOTATION)
    if before is not None and before.desired_text == text:
        desired, text = before.desired, before.desired_text
    else:
        desired = read_desired(text)
    engine, notes = _read_injected(annotations.get(INJECTED_ANNOTATION))
    ended = status.get("phase") in ("Succeeded", "Failed")
    return InferencePod(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta.get("uid") or "",
        node=spec.get("nodeName") or "",
        ip=status.get("podIP") or "",
        adapters=read_names(annotations.get(ADAPTERS_ANNOTATION)),
        desired=desired,
        desired_text=text,
        injected=any(each.get("name") == AGENT_CONTAINER for each in _both(spec, "initContainers", "containers")),
        engine=engine,
        notes=notes,
        running=not ended and _agent_runs(status),
        deleting="deletionTimestamp" in meta,
        ended=ended,
        created=meta.get("creationTimestamp") or "",
    )


def read_names(text: str | None) -> tuple[str, ...]:
    """Return the names of a list with commas, each once; what can be no name of an object is left out."""
    names = dict.fromkeys(each.strip() for each in (text or "").split(","))
    return tuple(each for each in names if len(each) <= _MAX_NAME and _OBJECT_NAME.fullmatch(each))


def _both(source: Document, *keys: str) -> Iterable[Document]:
    return (each for key in keys for each in source.get(key) or [])


def _agent_runs(status: Document) -> bool:
    """Return whether the agent's container runs; as a native sidecar it is listed with the init containers."""
    states = _both(status, "initContainerStatuses", "containerStatuses")
    return any(each.get("name") == AGENT_CONTAINER and "running" in (each.get("state") or {}) for each in states)


def _read_injected(text: str | None) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return engine and notes of the webhook's annotation; nothing of what is not as the webhook writes it."""
    said = _parse(text)
    if not isinstance(said, dict):
        return "", ()
    notes = said.get("notes")
    return _word(said.get("engine")), tuple(
        (_word(each.get("reason")), _word(each.get("message")))
        for each in (notes if isinstance(notes, list) else [])[:_MAX_NOTES]
        if isinstance(each, dict)
    )


def _word(value: Any) -> str:
    return value[:_MAX_TEXT] if isinstance(value, str) else ""


def _parse(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def read_desired(text: str | None) -> Mapping[str, DesiredAdapter]:
    """Return the entries of the annotation by name. Entries that cannot be read are left out.

    One bad entry must not look as if the pod served nothing: the next text would unload all the others.
    """
    said = _parse(text)
    entries = said.get("adapters") if isinstance(said, dict) else None
    if not isinstance(entries, list):
        return _NOTHING
    found = [entry for each in entries if (entry := _read_entry(each)) is not None]
    return MappingProxyType({each.name: each for each in found}) if found else _NOTHING


def _read_entry(value: Any) -> DesiredAdapter | None:
    key = json.dumps(value, sort_keys=True)
    known = _KNOWN.get(key)
    if known is not None:
        return known
    try:
        entry = DesiredAdapter.model_validate(value)
    except ValidationError:
        return None
    return _KNOWN.setdefault(key, entry)


def with_entries(text: str | None, changes: Mapping[str, DesiredAdapter | None]) -> str | None:
    """Return the annotation with entries put in by the name of their LoRAAdapter, or with None taken out.

    A text that says so already is returned as it is, so equal means that there is nothing to write. What has been told
    something is never told nothing at all: the last entry leaves a text without entries, which unloads. Raises
    `TooMuchError`.
    """
    before = read_desired(text)
    after = {**before, **changes}
    entries = {name: entry for name, entry in after.items() if entry is not None}
    if entries == before:
        return text
    if len(entries) > MAX_ADAPTERS:
        raise TooMuchError(f"{len(entries)} adapters; a pod serves at most {MAX_ADAPTERS}")
    written = Desired(adapters=list(entries.values())).encode()
    if (size := len(written.encode())) > MAX_DESIRED_BYTES:
        raise TooMuchError(f"{len(entries)} adapters take {size} bytes; a pod can be told {MAX_DESIRED_BYTES}")
    return written
