"""Starts the operator: serves health, metrics and the pod webhook, waits until this replica leads, and works.

A process that cannot watch must not look alive: whichever part ends first takes the others with it, and Kubernetes
starts a new one. A restart is cheap, because nothing is remembered.
"""

import asyncio
import functools
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import aiohttp

from lora_operator.app.admission import Reviewer
from lora_operator.app.config import Config, WebhookConfig, read_config
from lora_operator.app.leader import Alone, Leadership, LeadershipLostError
from lora_operator.app.logs import configure_logs
from lora_operator.app.metrics import Metrics
from lora_operator.app.probes import Health, serve_health
from lora_operator.app.telemetry import Telemetry
from lora_operator.app.tracing import open_tracing
from lora_operator.app.webhook import (
    GivenCertificate,
    Listen,
    OwnCertificate,
    read_adapters,
    serve_webhook,
    server_names,
)
from lora_operator.app.work import Work, wait_for_types
from lora_operator.cluster.client import Client
from lora_operator.cluster.connect import connect
from lora_operator.cluster.lease import FencedClient, LeaseClient
from lora_operator.cluster.webhook_config import WebhookConfigClient
from lora_operator.domain.injection import InjectionSettings
from lora_operator.domain.reading import read_adapter
from lora_operator.domain.serving import stable_entries

_LOG = logging.getLogger("lora_operator")
_CANDIDATE_SECONDS = 60.0
"""Limit between two attempts at the Lease; a few seconds lie between them."""


def main() -> None:
    """Run the operator until a signal ends it. Exits with 1 when a part of it failed."""
    config = read_config(sys.argv[1:])
    configure_logs(config.log_format, config.log_level)
    asyncio.run(_run_and_exit(config))


async def _run_and_exit(config: Config) -> NoReturn:
    """Run, and end the process at once: Kopf's watches can refuse to end, and have nothing that needs an end."""
    code = 0
    try:
        await run(config)
    except Exception:
        _LOG.exception("The operator ends because a part of it failed")
        code = 1
    _exit(code)


def _exit(code: int) -> NoReturn:
    logging.shutdown()
    os._exit(code)


async def run(config: Config) -> None:
    """Serve health and metrics, wait until this replica leads, and work until a signal."""
    stop = _stop_on_signals()
    metrics, health, tracing = Metrics(), Health(), open_tracing(config.otlp_endpoint)
    metrics.serve(config.metrics_port, config.listen)
    try:
        await _lead(config, metrics, health, Telemetry(metrics, tracing), stop)
    finally:
        await asyncio.to_thread(tracing.close)


async def _lead(config: Config, metrics: Metrics, health: Health, telemetry: Telemetry, stop: asyncio.Event) -> None:
    async with (
        serve_health(health, config.listen, config.health_port),
        _webhook(config, metrics, health, telemetry),
        _candidate(config, health) as leadership,
    ):
        if not await _unless(stop, leadership.acquire()):
            return
        health.role = "leader"
        metrics.lead(True)
        async with _kept(leadership), await connect() as api, aiohttp.ClientSession() as session:
            client = FencedClient(api, leadership.is_held, observer=telemetry.requested)
            if await _unless(stop, wait_for_types(client, config)):
                await Work(config, client, session, metrics, health, telemetry).run(stop)


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    return stop


@asynccontextmanager
async def _webhook(config: Config, metrics: Metrics, health: Health, telemetry: Telemetry) -> AsyncIterator[None]:
    """Serve the pod webhook, whether this replica leads or not: it writes nothing but who may be trusted."""
    if config.webhook is None:
        yield
        return
    async with await connect() as api:
        client = Client(api, observer=telemetry.requested)
        upkeep = _certificate(config, config.webhook, WebhookConfigClient(api, observer=telemetry.requested))
        listen = Listen(config.listen, config.webhook.port)
        reviewer = _reviewer(config, config.webhook, client, metrics)
        async with serve_webhook(reviewer, upkeep, health, listen):
            yield


def _reviewer(config: Config, webhook: WebhookConfig, client: Client, metrics: Metrics) -> Reviewer:
    return Reviewer(
        functools.partial(read_adapters, client),
        lambda adapters, names: stable_entries([read_adapter(each) for each in adapters], names),
        InjectionSettings(webhook.agent_image),
        config.namespaces,
        observer=metrics.admitted,
    )


def _certificate(
    config: Config, webhook: WebhookConfig, authorities: WebhookConfigClient
) -> OwnCertificate | GivenCertificate:
    if webhook.certificates is not None:
        return GivenCertificate(webhook.certificates)
    names = server_names(webhook.service, config.lease_namespace, config.listen)
    return OwnCertificate(names, config.identity, authorities)


@asynccontextmanager
async def _candidate(config: Config, health: Health) -> AsyncIterator[Leadership | Alone]:
    """Yield this replica's part in the election. In the end, whatever it is, it lets go of the Lease."""
    if not config.leader_election:
        yield Alone()
        return
    async with await connect() as api:
        leadership = Leadership(
            LeaseClient(api),
            namespace=config.lease_namespace,
            name=config.lease_name,
            identity=config.identity,
            on_contact=health.reached,
        )
        health.role = "standby"
        health.expect("lastLeaseAttemptSeconds", lambda: leadership.age, _CANDIDATE_SECONDS)
        try:
            yield leadership
        finally:
            await leadership.release()


@asynccontextmanager
async def _kept(leadership: Leadership | Alone) -> AsyncIterator[None]:
    """Renew the Lease in the background."""
    renewal = asyncio.create_task(_keep(leadership), name="lease")
    try:
        yield
    finally:
        renewal.cancel()
        await asyncio.gather(renewal, return_exceptions=True)


async def _keep(leadership: Leadership | Alone) -> None:
    """Renew the Lease; on its loss end at once. An orderly end takes seconds, and another replica works already."""
    try:
        await leadership.keep()
    except LeadershipLostError as lost:
        _LOG.critical("This replica leads no more and ends: %s", lost)
        _exit(1)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Wait for some work. Returns False if the process is told to stop before that is done."""
    tasks = [asyncio.create_task(work), asyncio.create_task(stop.wait())]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if tasks[0] not in done:
        return False
    tasks[0].result()  # raises what ended it
    return True


if __name__ == "__main__":
    main()
