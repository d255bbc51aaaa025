"""Asks the agents of inference pods what their pods serve, in the background: `GET /status` at the pod's address.

An answer is another program's word about its own pod. What is no status, is too long, or speaks of another pod is no
answer at all. What differs from the answer before wakes the adapters that it is about, and no others: of two hundred
adapters in a pod mostly one changes.
"""

import hashlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import aiohttp

from lora_api.delivery import AgentAdapter, AgentStatus
from lora_api.names import AGENT_PORT, STATUS_PATH
from lora_operator.cluster.client import Client
from lora_operator.cluster.fetch import DirectFetch, Fetch, ProxyFetch
from lora_operator.cluster.poller import FORGET_AFTER, Known, Poller
from lora_operator.cluster.rota import Entry
from lora_operator.domain.inference import AgentReport, InferencePod
from lora_operator.domain.numbers import load_finite

INTERVAL: Final = 15.0
SOON_INTERVAL: Final = 0.5
MAXIMUM_BYTES: Final = 512 * 1024
"""Longest answer: 512 adapters, at 1 KiB each; most have a third of it."""


class AgentKey(NamedTuple):
    """A pod by its name."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class _Answer:
    status: AgentStatus
    text_digest: bytes
    """Of what was answered: the same text, which is the rule, is not read again."""


_Entry = Entry[AgentKey, InferencePod, _Answer]
_Known = Known[_Answer]


def direct_fetch(session: aiohttp.ClientSession, *, port: int = AGENT_PORT) -> Fetch[InferencePod]:
    """Return the way to agents from within the cluster."""
    return DirectFetch(session, port=port, path=STATUS_PATH, maximum=MAXIMUM_BYTES)


def proxy_fetch(client: Client) -> Fetch[InferencePod]:
    """Return the way to agents from outside the cluster."""
    return ProxyFetch(client, port=AGENT_PORT, path=STATUS_PATH, maximum=MAXIMUM_BYTES)


class AgentReader:
    """Knows what agents said last."""

    def __init__(
        self,
        fetch: Fetch[InferencePod],
        on_news: Callable[[str, str, frozenset[str]], None],
        *,
        interval: float = INTERVAL,
        soon_interval: float = SOON_INTERVAL,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        forget_after: float = FORGET_AFTER,
        observer: Callable[[bool], None] = lambda answered: None,
    ) -> None:
        """Ask by `fetch`, each pod every `interval` seconds, or `soon_interval` where something is about to change.

        `on_news` gets namespace and name of a pod, and the names of the LoRAAdapters about which something new is
        known; these are all of the pod when it falls silent or speaks again, and when its engine changes. `observer`
        hears of every question whether it was answered.
        """
        self._on_news = on_news
        self._clock = clock
        self._poller: Poller[AgentKey, InferencePod, _Answer] = Poller(
            fetch,
            _read_answer,
            self._heard,
            namespace_of=lambda key: key.namespace,
            interval=interval,
            eager_interval=soon_interval,
            clock=clock,
            chance=chance,
            forget_after=forget_after,
            observer=observer,
        )

    @property
    def pods(self) -> int:
        """Pods that are asked."""
        return len(self._poller)

    def read(self, pod: InferencePod, *, soon: bool) -> AgentReport:
        """Return at once what is known of a pod's agent, and keep asking it.

        `soon` asks often for half a minute from now; another pass that does not say it takes nothing back. An agent
        that does not run is not asked.
        """
        key = AgentKey(pod.namespace, pod.name)
        asked = pod.running and bool(pod.ip)
        entry = self._poller.read(key, pod, eager=soon) if asked else self._poller.last(key, pod.uid)
        if entry is None:
            return AgentReport()
        since = entry.silent_since
        return AgentReport(
            status=entry.answer.status if entry.answer else None,
            silent_seconds=None if since is None else max(0.0, self._clock() - since),
        )

    def forget(self, pod: InferencePod) -> None:
        """Ask a pod no more. Another pod of the same name is left alone."""
        key = AgentKey(pod.namespace, pod.name)
        if self._poller.last(key, pod.uid) is not None:
            self._poller.forget(key)

    async def run(self) -> None:
        """Ask for ever."""
        await self._poller.run()

    def _heard(self, entry: _Entry, before: _Known, after: _Known) -> None:
        names = _concerned(entry.pod, before, after)
        if names:
            self._on_news(*entry.key, names)


def _read_answer(pod: InferencePod, text: str, before: _Answer | None) -> _Answer:
    """Read an answer. Raises ValueError for what is no status of this pod."""
    digest = hashlib.sha256(text.encode()).digest()
    if before is not None and before.text_digest == digest:
        return before
    status = AgentStatus.model_validate(load_finite(text))
    if status.pod_uid != pod.uid:
        raise ValueError("the answer is that of another pod")
    return _Answer(status, digest)


def _concerned(pod: InferencePod, before: _Known, after: _Known) -> frozenset[str]:
    """Return the LoRAAdapters about which something else is known than before."""
    new = _adapters(after)
    everyone = pod.concerns | new.keys()
    if (before.silent_since is None) != (after.silent_since is None):
        return everyone
    if before.answer is None or after.answer is None:
        return everyone if before.answer is not after.answer else frozenset()
    if before.answer.status.engine.kind != after.answer.status.engine.kind:
        return everyone
    old = _adapters(before)
    return frozenset(name for name in old.keys() | new.keys() if _differ(old.get(name), new.get(name)))


def _adapters(known: _Known) -> dict[str, AgentAdapter]:
    return {each.name: each for each in known.answer.status.adapters} if known.answer else {}


def _differ(one: AgentAdapter | None, other: AgentAdapter | None) -> bool:
    """Return whether two words on an adapter differ in more than in how many bytes have come."""
    if one is None or other is None or one == other:
        return one is not other and one != other
    return one.model_copy(update={"downloaded_bytes": 0}) != other.model_copy(update={"downloaded_bytes": 0})
