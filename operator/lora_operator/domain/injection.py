"""What the webhook makes of a labelled inference pod: the agent beside the engine, and what the engine lacks. Pure.

A pod document in, a JSON patch or a refusal out. What belongs to the pod's author or to other webhooks stays as it is,
and an injected pod that comes again is not changed again. No credential is read here, and none goes into an annotation.
"""

import copy
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from lora_api.base import QUANTITY
from lora_api.delivery import MAX_ADAPTERS, Desired
from lora_api.loraadapter import RolloutStage
from lora_api.names import (
    ADAPTERS_ANNOTATION,
    ADAPTERS_DIRECTORY,
    AGENT_CONTAINER,
    DESIRED_ANNOTATION,
    INJECT_FLAGS_ANNOTATION,
    INJECT_LABEL,
    INJECTED_ANNOTATION,
    REQUIRED_ADAPTERS_ANNOTATION,
    SECRETS_ANNOTATION,
    STORE_SIZE_ANNOTATION,
)
from lora_operator.domain.agent_container import (
    ADAPTERS_VOLUME,
    OWN_VOLUMES,
    Agent,
    agent_container,
    agent_volumes,
    is_own,
)
from lora_operator.domain.engines import TGI, Found, InjectionRefusedError, annotations_of, find_engine
from lora_operator.domain.flags import EngineChange, Note, Request, change_engine, engine_key
from lora_operator.domain.inference import MAX_DESIRED_BYTES
from lora_operator.domain.reading import read_adapter

Document = dict[str, Any]

DEFAULT_STORE_SIZE: Final = "8Gi"
_LEAST_STORE: Final = 1024 * 1024
"""Bytes below which a size was meant to be something else, such as 8 for 8Gi."""
_MAX_QUANTITY: Final = 32
_UNITS: Final = {
    "m": Decimal("0.001"),
    "": Decimal(1),
    **{unit: Decimal(1000) ** power for power, unit in enumerate(("k", "M", "G", "T", "P"), start=1)},
    **{unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi"), start=1)},
}
_MAX_NAME: Final = 63
_NAME: Final = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_MAX_SECRET_NAME: Final = 253


@dataclass(frozen=True, slots=True)
class InjectionSettings:
    """What an administrator decides for all pods."""

    agent_image: str


@dataclass(frozen=True, slots=True)
class Injection:
    """What is done with a pod."""

    patch: list[Document]
    """Operations of a JSON patch (RFC 6902); none if there is nothing to do."""
    notes: tuple[Note, ...] = field(default=())
    """What the author has to know."""


def is_wanted(pod: Document) -> bool:
    """Return whether a pod asks for the agent."""
    labels: Mapping[str, str] = (pod.get("metadata") or {}).get("labels") or {}
    return labels.get(INJECT_LABEL) == "true"


def named_adapters(pod: Document) -> tuple[str, ...]:
    """Return the LoRAAdapters that a pod names. Raises `InjectionRefusedError`."""
    text = annotations_of(pod).get(ADAPTERS_ANNOTATION, "")
    names = _names(ADAPTERS_ANNOTATION, text, _MAX_NAME, "LoRAAdapters")
    if not names:
        raise InjectionRefusedError(
            f"annotation {ADAPTERS_ANNOTATION} is missing or empty: write the names of LoRAAdapters of this namespace,"
            " such as support-bot or support-bot,summaries"
        )
    if len(names) > MAX_ADAPTERS:
        raise InjectionRefusedError(
            f"annotation {ADAPTERS_ANNOTATION}: {len(names)} names are too many: write at most {MAX_ADAPTERS}"
        )
    return names


def inject(pod: Document, adapters: Iterable[Document], desired: Desired, settings: InjectionSettings) -> Injection:
    """Return how a pod is changed. `adapters` are those LoRAAdapters of its names that exist.

    Raises `InjectionRefusedError` for what cannot work, with a sentence for the pod's author.
    """
    if not is_wanted(pod):
        return Injection([])
    names, adapters = named_adapters(pod), list(adapters)
    wanted = Desired(adapters=[each for each in desired.adapters if each.name in names])
    text = _encoded(wanted)
    found = find_engine(pod)
    unserved = _unserved(adapters, names, wanted) if found.product is TGI else {}
    served_names = {each.name: each.served_name for each in wanted.adapters} | unserved
    request = Request(len(names), tuple(served_names[each] for each in sorted(served_names)), _may_change(pod))
    change = change_engine(found, request)
    key, key_notes = engine_key(found)
    store_size, store_bytes = _store(pod)
    agent = Agent(
        image=settings.agent_image,
        engine=found.product.engine,
        url=found.url,
        key=key,
        max_rank=change.max_rank,
        required=tuple(dict.fromkeys((*_required(pod, names), *(unserved if change.reads_by_name else ())))),
        annotations=annotations_of(pod),
        store_size=store_size,
        store_bytes=store_bytes,
        secrets=_secrets(pod, adapters, wanted),
    )
    notes = (*change.notes, *key_notes)
    changed = _changed(pod, found, change, agent)
    changed["metadata"]["annotations"] |= {
        DESIRED_ANNOTATION: text,
        INJECTED_ANNOTATION: _report(found, change, notes),
    }
    return Injection(_patch(pod, changed), notes)


def _unserved(adapters: Iterable[Document], names: Sequence[str], wanted: Desired) -> dict[str, str]:
    """Return the model names of those LoRAAdapters that no pod has served yet, by their names.

    The operator tells the pod to serve them once it exists. One that was given up is left out: nobody waits for it.
    """
    known = {each.name for each in wanted.adapters}
    found = [read_adapter(each) for each in adapters]
    new = [each for each in found if each.name in names and each.name not in known and each.deleting_since is None]
    return {
        each.name: each.spec.served_name or each.name
        for each in sorted(new, key=lambda each: each.name)
        if each.spec is not None and not (each.status.rollout and each.status.rollout.stage == RolloutStage.FAILED)
    }


def _encoded(desired: Desired) -> str:
    """Return the text of the annotation, if a pod can carry it."""
    text = desired.encode()
    if (size := len(text.encode())) > MAX_DESIRED_BYTES:
        raise InjectionRefusedError(
            f"annotation {ADAPTERS_ANNOTATION}: what the pod is to serve takes {size} bytes, and an annotation may have"
            f" {MAX_DESIRED_BYTES}: name fewer adapters"
        )
    return text


def _changed(pod: Document, found: Found, change: EngineChange, agent: Agent) -> Document:
    changed = copy.deepcopy(pod)
    changed["metadata"]["annotations"] = annotations_of(pod)
    spec = changed["spec"]
    _refuse_conflicts(pod, found)
    engine = next(each for each in spec["containers"] if each["name"] == found.container["name"])
    _change_engine(engine, change)
    _place_agent(spec, agent)
    spec["volumes"] = _with_volumes(spec.get("volumes") or [], agent_volumes(agent))
    return changed


def _with_volumes(before: Sequence[Document], ours: Sequence[Document]) -> list[Document]:
    """Return the volumes with ours at the places that they have already, and without those of earlier Secrets."""
    by_name = {each["name"]: each for each in ours}
    kept = [by_name.pop(each["name"], each) for each in before if each["name"] in by_name or not is_own(each["name"])]
    return [*kept, *by_name.values()]


def _change_engine(engine: Document, change: EngineChange) -> None:
    """Give the engine's container what it lacks, and the adapters to read."""
    if change.environment:
        engine["env"] = [*(engine.get("env") or []), *change.environment]
    if change.arguments:
        engine["args"] = [*(engine.get("args") or []), *change.arguments]
    mounts = engine.get("volumeMounts") or []
    if not any(each["name"] == ADAPTERS_VOLUME for each in mounts):
        mount = {"name": ADAPTERS_VOLUME, "mountPath": ADAPTERS_DIRECTORY, "readOnly": True}
        engine["volumeMounts"] = [*mounts, mount]


def _place_agent(spec: Document, agent: Agent) -> None:
    """Put the agent after the other init containers: what gives the pod its network is a sidecar before it."""
    containers = list(spec.get("initContainers") or [])
    places = [index for index, each in enumerate(containers) if each["name"] == AGENT_CONTAINER]
    if places:
        containers[places[0]] = agent_container(agent, before=containers[places[0]])
    else:
        containers.append(agent_container(agent))
    spec["initContainers"] = containers


def _refuse_conflicts(pod: Document, found: Found) -> None:
    spec = pod["spec"]
    if any(each["name"] == AGENT_CONTAINER for each in spec["containers"]):
        raise InjectionRefusedError(
            f"container {AGENT_CONTAINER}: this name is that of the agent, which the webhook adds: name yours otherwise"
        )
    for mount in found.container.get("volumeMounts") or []:
        path = str(mount.get("mountPath") or "").rstrip("/")
        within = path == ADAPTERS_DIRECTORY or path.startswith(f"{ADAPTERS_DIRECTORY}/")
        if within and mount["name"] != ADAPTERS_VOLUME:
            raise InjectionRefusedError(
                f"container {found.container['name']} mounts volume {mount['name']!r} at {path}: the agent's adapters"
                f" lie under {ADAPTERS_DIRECTORY}, so mount yours elsewhere"
            )
        if mount["name"] == ADAPTERS_VOLUME and (not within or not mount.get("readOnly")):
            raise InjectionRefusedError(
                f"container {found.container['name']} mounts {ADAPTERS_VOLUME} in another way than at"
                f" {ADAPTERS_DIRECTORY} and read-only: take this mount away, the webhook adds it"
            )
    for volume in spec.get("volumes") or []:
        kind = OWN_VOLUMES.get(volume["name"])
        if kind is not None and kind not in volume:
            raise InjectionRefusedError(
                f"volume {volume['name']}: this name is that of a volume which the webhook adds: name yours otherwise"
            )


def _may_change(pod: Document) -> bool:
    text = annotations_of(pod).get(INJECT_FLAGS_ANNOTATION, "true")
    if text.strip() not in ("true", "false"):
        raise InjectionRefusedError(f"annotation {INJECT_FLAGS_ANNOTATION}: {text!r}: write true or false")
    return text.strip() == "true"


def _required(pod: Document, names: Sequence[str]) -> tuple[str, ...]:
    text = annotations_of(pod).get(REQUIRED_ADAPTERS_ANNOTATION, "")
    required = _names(REQUIRED_ADAPTERS_ANNOTATION, text, _MAX_NAME, "LoRAAdapters")
    if unknown := [each for each in required if each not in names]:
        raise InjectionRefusedError(
            f"annotation {REQUIRED_ADAPTERS_ANNOTATION}: {unknown[0]!r} is not in annotation {ADAPTERS_ANNOTATION}:"
            " write it there as well"
        )
    return required


def _store(pod: Document) -> tuple[str, int]:
    """Return the size limit of the volume with the adapters, as it is written and in bytes."""
    text = annotations_of(pod).get(STORE_SIZE_ANNOTATION, DEFAULT_STORE_SIZE).strip()
    size = _bytes(text) if re.fullmatch(QUANTITY, text) and len(text) <= _MAX_QUANTITY else 0
    if size < _LEAST_STORE:
        raise InjectionRefusedError(
            f"annotation {STORE_SIZE_ANNOTATION}: {text!r} is no size for adapters: write one such as 8Gi"
        )
    return text, size


def _bytes(quantity: str) -> int:
    number = quantity.rstrip("mkKMGTPi")
    return int(Decimal(number) * _UNITS[quantity.removeprefix(number)])


def _secrets(pod: Document, adapters: Iterable[Document], desired: Desired) -> tuple[str, ...]:
    """Return the Secrets that the agent may need: named by the pod, by its adapters, and by the versions to serve."""
    text = annotations_of(pod).get(SECRETS_ANNOTATION, "")
    found = set(_names(SECRETS_ANNOTATION, text, _MAX_SECRET_NAME, "Secrets"))
    for document in adapters:
        source = (document.get("spec") or {}).get("source") or {}
        credentials = (source.get("storage") or {}).get("credentialsSecretRef") or {}
        token = source.get("tokenSecretRef") or {}
        found |= {each["name"] for each in (credentials, token) if each.get("name")}
    for entry in desired.adapters:
        if entry.storage is not None and entry.storage.credentials_secret_ref is not None:
            found.add(entry.storage.credentials_secret_ref.name)
        if entry.token_secret_ref is not None:
            found.add(entry.token_secret_ref.name)
    return tuple(sorted(found))


def _names(annotation: str, text: str, longest: int, what: str) -> tuple[str, ...]:
    """Return the names of a list with commas, each once."""
    names = tuple(dict.fromkeys(each.strip() for each in text.split(",") if each.strip()))
    for name in names:
        if len(name) > longest or not _NAME.match(name):
            shown = name if len(name) <= longest else f"{name[:longest]}…"
            raise InjectionRefusedError(
                f"annotation {annotation}: {shown!r} is no name: write names of {what} of the pod's own namespace, with"
                f" commas; each is made of lower-case letters, digits, - and ., and has at most {longest} characters"
            )
    return names


def _report(found: Found, change: EngineChange, notes: Sequence[Note]) -> str:
    """Return the text of the annotation that says what was done."""
    report = {
        "engine": str(found.product.engine),
        "container": found.container["name"],
        "port": found.port,
        "maxRank": change.max_rank,
        "notes": [{"reason": str(each.reason), "message": each.message} for each in notes],
    }
    return json.dumps(report, separators=(",", ":"), ensure_ascii=False)


_PARTS: Final = (
    ("metadata", "annotations"),
    ("spec", "initContainers"),
    ("spec", "containers"),
    ("spec", "volumes"),
)


def _patch(before: Document, after: Document) -> list[Document]:
    """Return the operations for the parts of a pod that differ. `add` also replaces."""
    return [
        {"op": "add", "path": f"/{part}/{name}", "value": after[part][name]}
        for part, name in _PARTS
        if (before.get(part) or {}).get(name) != after[part][name]
    ]
