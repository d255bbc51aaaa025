"""Engines that are slow, endless or not there."""

import asyncio
import socket
from pathlib import Path

import aiohttp
import pytest

from lora_agent.drivers import KINDS, make_driver
from lora_agent.drivers.base import Driver, EngineError, ErrorKind, fault_of, one_line
from lora_agent.drivers.client import MAX_ANSWER_BYTES, EngineClient, Limits
from lora_agent.drivers.vllm import VllmDriver
from lora_api.reasons import Reason
from support.engines.contract import fails
from support.engines.running import running
from support.engines.vllm import Vllm

SHORT = Limits(listing=0.1, load=0.1, generate=0.1)


def test_a_hanging_engine_costs_the_time_limit_and_the_outcome_is_open() -> None:
    async def ask(url: str) -> None:
        async with aiohttp.ClientSession() as session:
            driver = VllmDriver(EngineClient(url, None, session), SHORT)
            await fails(driver.list(), ErrorKind.UNREACHABLE)
            await fails(driver.load("a", Path("/x"), None), ErrorKind.BUSY)
            await fails(driver.unload("a", None), ErrorKind.BUSY)
            await fails(driver.next_tokens("a", None, "Hello", 3), ErrorKind.BUSY)

    with running(Vllm()) as server:
        server.flowing.clear()
        asyncio.run(ask(server.url))


def test_an_endless_answer_is_cut() -> None:
    async def ask(url: str) -> str:
        async with aiohttp.ClientSession() as session:
            return await fails(VllmDriver(EngineClient(url, None, session)).list(), ErrorKind.UNREACHABLE)

    with running(Vllm()) as server:
        server.replies = [(200, "x" * (MAX_ANSWER_BYTES + 1))]
        assert "more than 8 MiB" in asyncio.run(ask(server.url))


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_listens(kind: str, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

        async def ask() -> None:
            async with aiohttp.ClientSession() as session:
                driver: Driver = make_driver(kind, url, None, session, tmp_path)
                assert driver.kind == kind
                await fails(driver.list(), ErrorKind.UNREACHABLE)

        asyncio.run(ask())


def test_an_unknown_kind_names_the_known_ones() -> None:
    async def make() -> None:
        async with aiohttp.ClientSession() as session:
            make_driver("ollama", "http://localhost", None, session, Path("/adapters"))

    with pytest.raises(ValueError, match="LORA_ENGINE=ollama: there is no such driver, write one of vllm, sglang"):
        asyncio.run(make())


@pytest.mark.parametrize(
    ("kind", "reason", "permanent"),
    [
        (ErrorKind.UNREACHABLE, Reason.ENGINE_UNREACHABLE, False),
        (ErrorKind.BUSY, Reason.ENGINE_UNREACHABLE, False),
        (ErrorKind.NOT_ENABLED, Reason.ENGINE_FLAGS_MISSING, True),
        (ErrorKind.ALREADY_LOADED, Reason.NAME_CONFLICT, False),
        (ErrorKind.NOT_FOUND, Reason.ENGINE_REFUSED, False),
        (ErrorKind.UNAUTHORIZED, Reason.ENGINE_REFUSED, False),
        (ErrorKind.REFUSED, Reason.ENGINE_REFUSED, True),
    ],
)
def test_what_an_error_means_for_the_adapter(kind: ErrorKind, reason: Reason, permanent: bool) -> None:
    fault = fault_of(EngineError(kind, "because"))
    assert (fault.reason, fault.message, fault.permanent) == (reason, "because", permanent)


def test_words_become_one_line() -> None:
    assert one_line(" a\n  b\tc ") == "a b c"
    assert one_line("abcdef", 4) == "abc…"
