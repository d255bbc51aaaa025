"""What the leading replica does: Kopf's watches feed the queue, workers make passes, a resync finds what was missed."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus

import aiohttp
import kopf

from lora_operator.app.config import Config
from lora_operator.app.handlers import operator_settings, register_handlers, register_login
from lora_operator.app.metrics import Metrics
from lora_operator.app.probes import Health
from lora_operator.app.session import Contact
from lora_operator.cluster.agents import AgentReader, direct_fetch, proxy_fetch
from lora_operator.cluster.client import JOBS, LORAADAPTERS, LORAJOBS, ApiError, Client, Resource
from lora_operator.cluster.desires import DesireWriter
from lora_operator.cluster.fetch import DirectFetch, ProxyFetch
from lora_operator.cluster.inference import InferencePods
from lora_operator.cluster.notices import Notices
from lora_operator.cluster.observe import Observer
from lora_operator.cluster.progress import ProgressReader
from lora_operator.domain.adapter_pods import named_in
from lora_operator.domain.inference import InferencePod
from lora_operator.domain.observed import Document
from lora_operator.domain.settings import Settings
from lora_operator.reconcile.keys import Key, Kind
from lora_operator.reconcile.loraadapter import LoRAAdapterReconciler
from lora_operator.reconcile.lorajob import LoRAJobReconciler
from lora_operator.reconcile.news import News, job_facts, pod_facts
from lora_operator.reconcile.queue import WorkQueue
from lora_operator.reconcile.resync import Resync
from lora_operator.reconcile.witness import Witness

_LOG = logging.getLogger("lora_operator")
_BURST = 0.2
"""Seconds that the news of pods are gathered: those of a Deployment come together."""
_GRACE_SECONDS = 15.0
"""Time for the passes that are under way; a pass makes some five requests."""
_RETRY_SECONDS = 2.0
_OLDEST_SECONDS = 300.0
"""An object may wait for, or be in, one pass: ten requests that all run into their timeout."""
_RESYNCS = 4
"""Resyncs that may fail in a row: a restart does not help against an API server that is away for a while."""
_BLIND_SECONDS = 120.0
"""A watch may ask in vain for so long. An API server restarts in half a minute; one that is away for longer costs one
restart of ours, and the new process waits for it."""


async def wait_for_types(client: Client, config: Config) -> None:
    """Fail if the CRDs are not there: Kopf would start, and watch nothing. An API server that is away is awaited."""
    namespace = config.namespaces[0] if config.namespaces else None
    for resource in (LORAJOBS, LORAADAPTERS):
        while not await _can_list(client, resource, namespace):
            await asyncio.sleep(_RETRY_SECONDS)


async def _can_list(client: Client, resource: Resource, namespace: str | None) -> bool:
    try:
        async for _ in client.list(resource, namespace):
            break
    except ApiError as error:
        if error.status < HTTPStatus.INTERNAL_SERVER_ERROR and error.status != HTTPStatus.TOO_MANY_REQUESTS:
            raise RuntimeError(f"cannot list {resource.plural}: {error}; are the CRDs installed?") from error
        _LOG.warning("The API server is not ready: %s", error)
    except (OSError, aiohttp.ClientError) as error:  # a timeout is an OSError
        _LOG.warning("The API server cannot be reached: %s: %s", type(error).__name__, error)
    else:
        return True
    return False


class Work:
    """The parts that work together, from the watches to the writes."""

    def __init__(
        self,
        config: Config,
        client: Client,
        session: aiohttp.ClientSession,
        metrics: Metrics,
        health: Health,
        witness: Witness,
    ) -> None:
        """Put the parts together, and let health and metrics look at them."""
        self._config = config
        self._health = health
        self._queue: WorkQueue[Key] = WorkQueue(observer=metrics.observe, added=metrics.added)
        self._resync = Resync(client, self._queue, namespaces=config.namespaces, interval=config.resync_seconds)
        self._news = News()
        self._notices = Notices()
        self._contact = Contact(on_gap=self._missed_events)
        settings = Settings(trainer_image=config.trainer_image, policy=config.policy)
        direct = config.progress_route == "direct"
        fetch = DirectFetch(session) if direct else ProxyFetch(client)
        self._progress = ProgressReader(fetch, settings.progress_interval, self._progressed, observer=metrics.polled)
        ask = direct_fetch(session) if direct else proxy_fetch(client)
        self._agents = AgentReader(ask, self._agent_spoke, observer=metrics.asked_agent)
        self._inference = InferencePods(client, config.namespaces, self._pod_changed)
        self._desires = DesireWriter(client, self._inference)
        observer = Observer(client, self._progress, self._notices, self._pass_read)
        jobs = LoRAJobReconciler(client, observer, settings, _now, witness)
        adapters = LoRAAdapterReconciler(client, self._inference, self._agents, self._desires, _now, witness)
        passes = {Kind.LORAJOB: jobs.reconcile, Kind.LORAADAPTER: adapters.reconcile}
        self._reconcile = _dispatcher(passes, witness)
        metrics.watch_pods(lambda: self._progress.pods)
        metrics.watch_queue(lambda: self._queue.depth, self._queue.oldest_age)
        health.expect("oldestItemSeconds", self._queue.oldest_age, _OLDEST_SECONDS)
        health.expect("lastResyncSeconds", lambda: self._resync.age, _RESYNCS * self._resync.interval)
        health.expect("blindSeconds", lambda: self._contact.blind_seconds, _BLIND_SECONDS)
        health.expect("blindToPodsSeconds", lambda: self._inference.blind_seconds, _BLIND_SECONDS)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop, or until a part ends; then let the passes finish. Raises what ended a part."""
        config = self._config
        _LOG.info("Serves %s; trainer image %s", ", ".join(config.namespaces) or "all namespaces", config.trainer_image)
        passes = asyncio.create_task(self._queue.run(self._reconcile, workers=config.workers), name="passes")
        others = [
            asyncio.create_task(self._resync.run(), name="resync"),
            asyncio.create_task(self._progress.run(), name="progress"),
            asyncio.create_task(self._inference.run(), name="inference pods"),
            asyncio.create_task(self._agents.run(), name="agents"),
            asyncio.create_task(self._watch(stop), name="watches"),
            asyncio.create_task(_told(stop), name="stop"),
        ]
        self._health.reached()
        try:
            done, _ = await asyncio.wait([passes, *others], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._health.ready = False
            await self._finish(passes, others)
        for part in done:
            part.result()  # raises what ended it

    async def _finish(self, passes: asyncio.Task[None], others: list[asyncio.Task[None]]) -> None:
        """Let the passes under way come to their end, and end everything else."""
        self._queue.stop()
        await asyncio.wait([passes], timeout=_GRACE_SECONDS)
        await self._desires.close()
        for part in (passes, *others):
            part.cancel()
        await asyncio.gather(passes, *others, return_exceptions=True)

    async def _watch(self, stop: asyncio.Event) -> None:
        """Run Kopf until any task of it ends, and raise what ended it.

        Kopf's own end is not awaited: after a dead watch it can wait for ever for the other ones.
        """
        registry = kopf.OperatorRegistry()
        register_handlers(registry, self._queue, self._news, self._notices)
        register_login(registry, self._contact)
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=operator_settings(),
            standalone=True,  # else any peering object in the cluster could pause this operator
            clusterwide=not self._config.namespaces,
            namespaces=self._config.namespaces,
        )
        for each in (signal.SIGTERM, signal.SIGINT):  # Kopf took them; passes end before the watches do
            asyncio.get_running_loop().add_signal_handler(each, stop.set)
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()

    def _progressed(self, namespace: str, job: str) -> None:
        self._queue.add(Key(Kind.LORAJOB, namespace, job))

    def _pass_read(self, resource: Resource, document: Document) -> None:
        self._news.read(document, job_facts if resource == JOBS else pod_facts)

    def _pod_changed(self, before: InferencePod | None, after: InferencePod | None) -> None:
        pod = after or before
        if pod is None:
            return
        if after is None:
            self._agents.forget(pod)
        self._wake(pod.namespace, named_in(before, after))

    def _agent_spoke(self, namespace: str, pod: str, adapters: frozenset[str]) -> None:
        self._wake(namespace, adapters)

    def _wake(self, namespace: str, adapters: frozenset[str]) -> None:
        for name in adapters:
            self._queue.add_after(Key(Kind.LORAADAPTER, namespace, name), _BURST)

    def _missed_events(self) -> None:
        self._news.forget()
        self._resync.soon()


def _dispatcher(
    passes: Mapping[Kind, Callable[[str, str], Awaitable[float | None]]], witness: Witness
) -> Callable[[Key], Awaitable[float | None]]:
    """Return the function that makes one pass over whatever a key names."""

    async def reconcile(key: Key) -> float | None:
        with witness.started(key):
            return await passes[key.kind](key.namespace, key.name)

    return reconcile


async def _told(stop: asyncio.Event) -> None:
    await stop.wait()


def _now() -> datetime:
    return datetime.now(UTC)
