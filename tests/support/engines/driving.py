"""Runs a test's coroutine with a driver, and its HTTP session, in an event loop of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import aiohttp

from lora_agent.drivers import make_driver
from lora_agent.drivers.base import Driver

T = TypeVar("T")


def drive(
    kind: str, url: str, call: Callable[[Driver], Awaitable[T]], *, key: str | None = None, folder: Path = Path("/none")
) -> T:
    """Return what the call returns."""

    async def run() -> T:
        async with aiohttp.ClientSession() as session:
            return await call(make_driver(kind, url, key, session, folder))

    return asyncio.run(run())
