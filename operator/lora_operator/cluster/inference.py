"""Knows the inference pods, as a watch brings them, so that a pass over an adapter reads none of them.

Late is no danger here, unlike for the children of a job: a pass only writes annotations, each write names what it
replaces, and what comes late brings another pass. Only `InferencePod`s are kept, never a whole pod.
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, TypeAlias

from lora_api.names import INJECT_LABEL
from lora_operator.cluster.client import PODS, Client
from lora_operator.cluster.reflector import Reflector, WatchTimes
from lora_operator.domain.inference import InferencePod, read_inference_pod
from lora_operator.domain.observed import Document

SELECTOR: Final = f"{INJECT_LABEL}=true"

PodChange: TypeAlias = Callable[[InferencePod | None, InferencePod | None], None]


@dataclass(slots=True)
class _Kept:
    pod: InferencePod
    version: int | None
    """The resourceVersion, where it is a number."""


class InferencePods:
    """The pods that ask for an agent, in some namespaces or in all."""

    def __init__(
        self,
        client: Client,
        namespaces: Collection[str],
        on_change: PodChange,
        *,
        times: WatchTimes = WatchTimes(),  # noqa: B008 - immutable
    ) -> None:
        """Watch in the namespaces, or in all if none are given.

        `on_change` hears of every change of an `InferencePod`, with what it was before; None is one that is not there.
        """
        self._on_change = on_change
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._by_adapter: dict[tuple[str, str], set[str]] = {}
        scopes: list[str | None] = [*namespaces] or [None]
        self._reflectors = [Reflector(client, PODS, each, self, labels=SELECTOR, times=times) for each in scopes]

    async def run(self) -> None:
        """Watch for ever."""
        async with asyncio.TaskGroup() as group:
            for each in self._reflectors:
                group.create_task(each.run())

    @property
    def synced(self) -> bool:
        """Whether all pods are known that there were at the start."""
        return all(each.synced.is_set() for each in self._reflectors)

    @property
    def blind_seconds(self) -> float:
        """Seconds for which the longest blind watch has asked in vain; 0 while all are open."""
        return max(each.blind_seconds for each in self._reflectors)

    def get(self, namespace: str, name: str) -> InferencePod | None:
        """Return a pod, None if there is none of the name."""
        kept = self._kept.get((namespace, name))
        return kept.pod if kept else None

    def all(self) -> list[InferencePod]:
        """Return all pods, the oldest first."""
        return sorted((each.pod for each in self._kept.values()), key=_age)

    def for_adapter(self, namespace: str, name: str) -> list[InferencePod]:
        """Return the pods that ask for a LoRAAdapter, or are told to serve it all the same; the oldest first."""
        found = (self._kept[namespace, each].pod for each in self._by_adapter.get((namespace, name), ()))
        return sorted(found, key=_age)

    def learn(self, document: Document) -> None:
        """Take in a pod as the API server has just answered with it, before the watch brings it.

        One that the watch has not brought yet, or has taken away meanwhile, is left to the watch.
        """
        kept = self._kept.get(_key(document))
        if kept is not None and kept.pod.uid == document["metadata"].get("uid"):
            self.changed(document)

    def listed(self, document: Document) -> None:
        """Hear of a pod as a list has it."""
        kept = self._kept.get(_key(document))
        pod = read_inference_pod(document, kept.pod if kept else None)
        self._put(pod, _version(document))

    def changed(self, document: Document) -> None:
        """Hear of a pod. What is older than what is known, because a write was answered first, changes nothing."""
        kept, version = self._kept.get(_key(document)), _version(document)
        if kept is not None and kept.version is not None and version is not None and version < kept.version:
            return
        self.listed(document)

    def gone(self, namespace: str, name: str, uid: str) -> None:
        """Hear that a pod is gone."""
        kept = self._kept.get((namespace, name))
        if kept is not None and kept.pod.uid == uid:
            del self._kept[namespace, name]
            self._tell(kept.pod, None)

    def _put(self, pod: InferencePod, version: int | None) -> None:
        key = pod.namespace, pod.name
        kept = self._kept.get(key)
        before = kept.pod if kept else None
        if before is not None and before == pod:
            self._kept[key] = _Kept(before, version)
            return
        self._kept[key] = _Kept(pod, version)
        self._tell(before, pod)

    def _tell(self, before: InferencePod | None, after: InferencePod | None) -> None:
        """Bring the index up to date, and say what has changed."""
        old = before.concerns if before else frozenset()
        new = after.concerns if after else frozenset()
        if after is not None:
            for adapter in new - old:
                self._by_adapter.setdefault((after.namespace, adapter), set()).add(after.name)
        if before is not None:
            for adapter in old - new:
                self._drop((before.namespace, adapter), before.name)
        self._on_change(before, after)

    def _drop(self, key: tuple[str, str], pod: str) -> None:
        pods = self._by_adapter[key]
        pods.discard(pod)
        if not pods:
            del self._by_adapter[key]


def _age(pod: InferencePod) -> tuple[str, str]:
    return pod.created, pod.name


def _key(document: Document) -> tuple[str, str]:
    meta = document["metadata"]
    return meta["namespace"], meta["name"]


def _version(document: Document) -> int | None:
    text = document["metadata"].get("resourceVersion") or ""
    return int(text) if text.isdecimal() else None
