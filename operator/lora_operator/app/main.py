"""Starts the operator: puts the parts together, runs them until a signal, and ends when any of them dies.

A process that cannot watch must not look alive: whichever part ends first takes the others with it, and Kubernetes
starts a new one. A restart is cheap, because nothing is remembered.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import aiohttp
import kopf

from lora_operator.app.config import Config, read_config
from lora_operator.app.handlers import operator_settings, register_handlers
from lora_operator.app.metrics import Metrics
from lora_operator.app.probes import register_probes
from lora_operator.cluster.client import LORAADAPTERS, LORAJOBS, ApiError, Client
from lora_operator.cluster.connect import connect
from lora_operator.cluster.observe import Observer
from lora_operator.cluster.progress import DirectFetch, Fetch, ProgressReader, ProxyFetch
from lora_operator.domain.settings import Settings
from lora_operator.reconcile.keys import Key, Kind
from lora_operator.reconcile.loraadapter import LoRAAdapterReconciler
from lora_operator.reconcile.lorajob import LoRAJobReconciler
from lora_operator.reconcile.queue import WorkQueue
from lora_operator.reconcile.resync import Resync

_LOG = logging.getLogger("lora_operator")
_NOISY_LOGGERS = ("kopf.objects", "kopf.activities.probe", "aiohttp.access")
"""They write a line for each event of each object, and two for each probe."""
_GRACE_SECONDS = 15.0
"""Time for the passes that are under way; a pass makes some five requests."""


def main() -> None:
    """Run the operator until a signal ends it. Exits with 1 when a part of it failed."""
    config = read_config(sys.argv[1:])
    _configure_logs(config)
    try:
        asyncio.run(run(config))
    except Exception:
        _LOG.exception("The operator ends because a part of it failed")
        sys.exit(1)


def _configure_logs(config: Config) -> None:
    text = config.log_format == "text"
    kopf.configure(log_format=kopf.LogFormat.FULL if text else kopf.LogFormat.JSON)
    logging.getLogger().setLevel(config.log_level)
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


async def run(config: Config) -> None:
    """Connect, and run all parts until one of them ends."""
    api = await connect()
    async with api, aiohttp.ClientSession() as session:
        client = Client(api)
        await _require_types(client, config)
        await _run_parts(
            config, client, DirectFetch(session) if config.progress_route == "direct" else ProxyFetch(client)
        )


async def _require_types(client: Client, config: Config) -> None:
    """Fail now if the CRDs are not there: Kopf would start, and watch nothing."""
    namespace = config.namespaces[0] if config.namespaces else None
    for resource in (LORAJOBS, LORAADAPTERS):
        try:
            async for _ in client.list(resource, namespace):
                break
        except ApiError as error:
            raise RuntimeError(f"cannot list {resource.plural}: {error}; are the CRDs installed?") from error


async def _run_parts(config: Config, client: Client, fetch: Fetch) -> None:
    _LOG.info("Serves %s; trainer image %s", ", ".join(config.namespaces) or "all namespaces", config.trainer_image)
    metrics = Metrics()
    queue: WorkQueue[Key] = WorkQueue(observer=metrics.observe)
    metrics.watch_queue(lambda: queue.depth, queue.oldest_age)
    metrics.serve(config.metrics_port, config.listen)
    resync = Resync(client, queue, namespaces=config.namespaces, interval=config.resync_seconds)
    work = asyncio.create_task(queue.run(_dispatcher(config, client, fetch), workers=config.workers), name="queue")
    parts = [
        asyncio.create_task(_watch(config, queue, resync), name="watch"),
        asyncio.create_task(resync.run(), name="resync"),
        work,
    ]
    try:
        done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
    finally:
        queue.stop()
        await asyncio.wait([work], timeout=_GRACE_SECONDS)
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
    for part in done:
        part.result()  # raises what ended it


def _dispatcher(config: Config, client: Client, fetch: Fetch) -> Callable[[Key], Awaitable[float | None]]:
    """Return the function that makes one pass over whatever a key names."""
    settings = Settings(trainer_image=config.trainer_image)
    observer = Observer(client, ProgressReader(fetch, settings.progress_interval))
    jobs = LoRAJobReconciler(client, observer, settings, _now)
    adapters = LoRAAdapterReconciler(client, _now)
    by_kind = {Kind.LORAJOB: jobs.reconcile, Kind.LORAADAPTER: adapters.reconcile}

    async def reconcile(key: Key) -> float | None:
        return await by_kind[key.kind](key.namespace, key.name)

    return reconcile


async def _watch(config: Config, queue: WorkQueue[Key], resync: Resync) -> None:
    """Run Kopf. It returns after a signal, and raises when a watch dies."""
    registry = kopf.OperatorRegistry()
    register_handlers(registry, queue)
    register_probes(registry, queue, resync)
    await kopf.operator(
        registry=registry,
        settings=operator_settings(),
        standalone=True,  # else any peering object in the cluster could pause this operator
        clusterwide=not config.namespaces,
        namespaces=config.namespaces,
        liveness_endpoint=f"http://{config.listen}:{config.health_port}/healthz",
    )


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    main()
