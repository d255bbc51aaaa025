"""Starts the dashboard: `lora-dashboard`. It serves until a signal, and ends with 1 when a part of it failed."""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from lora_operator.app.logs import configure_logs
from lora_operator.cluster.client import Client
from lora_operator.cluster.connect import connect
from lora_operator.dashboard.config import Config, read_config
from lora_operator.dashboard.server import make_app, make_health_app
from lora_operator.dashboard.sources import CachedSource, Source, ViewerSource
from lora_operator.dashboard.viewers import Viewers, connect_anonymously

_LOG = logging.getLogger("lora_dashboard")


def main() -> None:
    """Run until a signal."""
    config = read_config(sys.argv[1:])
    configure_logs(config.log_format, config.log_level)
    sys.exit(asyncio.run(run(config)))


async def run(config: Config) -> int:
    """Serve until a signal; return the exit code."""
    stop = asyncio.create_task(_signal(), name="signal")
    try:
        async with _source(config) as (source, work), _serve(config, source):
            _LOG.info("The dashboard answers on port %d, with the rights of the %s", config.port, _whose(config))
            parts = {stop, work} if work else {stop}
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            if work and work.done():
                work.result()
    except Exception:
        _LOG.exception("The dashboard ends because a part of it failed")
        return 1
    finally:
        stop.cancel()
    return 0


def _whose(config: Config) -> str:
    return "viewer" if config.auth == "passthrough" else "ServiceAccount"


@asynccontextmanager
async def _source(config: Config) -> AsyncIterator[tuple[Source, asyncio.Task[None] | None]]:
    """Yield where the rows come from, and the task that feeds it, if there is one."""
    if config.auth == "passthrough":
        async with await connect_anonymously() as api:
            yield ViewerSource(Viewers(api), config.namespaces), None
        return
    cached = CachedSource()
    async with await connect() as api, cached.follow(Client(api), config.namespaces) as task:
        yield cached, task


@asynccontextmanager
async def _serve(config: Config, source: Source) -> AsyncIterator[None]:
    runners = []
    places = [
        (config.listen, config.port, make_app(source, config.hosts)),
        (config.health_listen, config.health_port, make_health_app(source)),
    ]
    try:
        for address, port, app in places:
            # Access logs would have the addresses of viewers, and an end must not wait for open streams.
            runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
            runners.append(runner)
            await runner.setup()
            await web.TCPSite(runner, address, port).start()
        yield
    finally:
        for runner in runners:
            await runner.cleanup()


async def _signal() -> None:
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    await stop.wait()


if __name__ == "__main__":
    main()
