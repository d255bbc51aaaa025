"""`lora-agent`: the sidecar beside an inference engine. Puts the parts together, and ends when it is told to.

At its end nothing is unloaded: the engine goes on serving, and the next agent finds everything in the store.
"""

import asyncio
import os
import random
import signal
import sys
import time

import aiohttp

from lora_agent import compatibility, logs
from lora_agent.desired import DesiredFile
from lora_agent.drivers import make_driver
from lora_agent.engine import Engine
from lora_agent.fetch import ProgramFetcher
from lora_agent.loop import Agent
from lora_agent.memory import MemoryFile
from lora_agent.metrics import Metrics
from lora_agent.probe import probe
from lora_agent.server import StatusServer
from lora_agent.settings import Settings, SettingsError, settings_from
from lora_agent.store import Store
from lora_agent.work import Tools
from lora_api.exit_codes import ExitCode


def main() -> int:
    """Run until SIGTERM or SIGINT."""
    logs.configure_logs()
    try:
        return asyncio.run(serve(settings_from(os.environ)))
    except (SettingsError, ValueError) as error:
        sys.stderr.write(f"lora-agent: {error}\n")
        return ExitCode.INVALID_REQUEST


async def serve(settings: Settings) -> int:
    """Run the agent and its pages. Raises ValueError for an engine that is not known, OSError for a port in use."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with aiohttp.ClientSession() as session:
        agent, measures = make_agent(settings, session)
        runner = await StatusServer(agent.status, measures).start(settings.port, settings.listen)
        logs.info("started", engine=settings.engine, port=settings.port)
        work, told = asyncio.create_task(agent.run()), asyncio.create_task(stop.wait())
        await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
        failed = work.done()
        for task in (work, told):
            task.cancel()
        results = await asyncio.gather(work, return_exceptions=True)
        await runner.cleanup()
    if failed and isinstance(results[0], Exception):
        logs.error("the agent failed", results[0])
        return ExitCode.INTERNAL_ERROR
    logs.info("ended")
    return ExitCode.DONE


def make_agent(settings: Settings, session: aiohttp.ClientSession) -> tuple[Agent, Metrics]:
    """Return an agent with everything it works with. Raises ValueError for an engine that is not known."""
    driver = make_driver(settings.engine, settings.engine_url, settings.engine_key, session, settings.adapters)
    store, measures = Store(settings.adapters), Metrics()
    engine = Engine(driver, store, probe, time.monotonic)
    tools = Tools(
        settings=settings,
        store=store,
        engine=engine,
        fetcher=ProgramFetcher(),
        compatibility=compatibility,
        metrics=measures,
        clock=time.monotonic,
        jitter=random.random,
    )
    return Agent(tools, MemoryFile(store.folder), DesiredFile(settings.desired)), measures


if __name__ == "__main__":
    sys.exit(main())
