"""What the driver of vLLM relies on, as checks that run against a fake server or a real one.

The real one decides what is right: when a check fails there, driver and fake are wrong.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from lora_agent.drivers import make_driver
from lora_agent.drivers.base import Driver, EngineError, ErrorKind
from lora_agent.probe import probe
from lora_api.loraadapter import Verify

NAME: Final = "contract-adapter"
STAGED: Final = "contract-staged"
PROMPT: Final = "The capital of France is"


@dataclass(frozen=True)
class Target:
    """A running engine, and folders with adapters as the engine sees them."""

    url: str
    base: str
    """Name of the base model in the list."""
    good: Path
    other: Path
    """Another good one, which says something else."""
    truncated: Path
    """Its adapter_model.safetensors ends early."""
    rank_too_high: Path
    api_key: str | None = None


Check = Callable[[Driver, Target], Awaitable[None]]


async def lists_the_base_and_no_adapter(driver: Driver, target: Target) -> None:
    """The base is told by id and root, and is no adapter."""
    listing = await driver.list()
    assert target.base in listing.bases
    assert listing.version
    assert not {NAME, STAGED} & listing.adapters.keys()


async def loads_lists_and_unloads(driver: Driver, target: Target) -> None:
    """The list proves name and path, until the name is gone."""
    await driver.load(NAME, target.good, None)
    assert (await driver.list()).adapters[NAME] == str(target.good)
    await driver.unload(NAME, target.good)
    assert NAME not in (await driver.list()).adapters


async def loads_the_same_twice(driver: Driver, target: Target) -> None:
    """Whoever lost the answer to a load may load again."""
    await driver.load(NAME, target.good, None)
    await driver.load(NAME, target.good, None)
    assert (await driver.list()).adapters[NAME] == str(target.good)


async def does_not_take_a_name_unasked(driver: Driver, target: Target) -> None:
    """A name that was thought to be free keeps what it has."""
    await driver.load(NAME, target.good, None)
    await fails(driver.load(NAME, target.other, None), ErrorKind.ALREADY_LOADED)
    assert (await driver.list()).adapters[NAME] == str(target.good)


async def unloads_an_unknown_name(driver: Driver, target: Target) -> None:
    """Whoever lost the answer to an unload may unload again."""
    await driver.unload(NAME, target.good)
    assert NAME not in (await driver.list()).adapters


async def replaces_a_version(driver: Driver, target: Target) -> None:
    """The name has the new path, and says something else."""
    await driver.load(NAME, target.good, None)
    before = await driver.next_tokens(NAME, target.good, PROMPT, 5)
    await driver.load(NAME, target.other, str(target.good))
    assert (await driver.list()).adapters[NAME] == str(target.other)
    assert await driver.next_tokens(NAME, target.other, PROMPT, 5) != before
    await driver.load(NAME, target.good, str(target.other))
    assert await driver.next_tokens(NAME, target.good, PROMPT, 5) == pytest.approx(before, abs=0.05)


async def keeps_the_version_before_a_bad_one(driver: Driver, target: Target) -> None:
    """A bad version is refused for good, and changes nothing."""
    await driver.load(NAME, target.good, None)
    before = await driver.next_tokens(NAME, target.good, PROMPT, 5)
    for bad in (target.truncated, target.rank_too_high):
        await fails(driver.load(NAME, bad, str(target.good)), ErrorKind.REFUSED)
        assert (await driver.list()).adapters[NAME] == str(target.good)
    assert await driver.next_tokens(NAME, target.good, PROMPT, 5) == pytest.approx(before, abs=0.05)


async def refuses_bad_files(driver: Driver, target: Target) -> None:
    """Nothing is listed after a failed load."""
    await fails(driver.load(NAME, target.truncated, None), ErrorKind.REFUSED)
    await fails(driver.load(NAME, target.rank_too_high, None), ErrorKind.REFUSED)
    await fails(driver.load(NAME, target.good.parent / "sha256-missing", None), ErrorKind.NOT_FOUND)
    assert NAME not in (await driver.list()).adapters


async def does_not_take_the_name_of_the_base(driver: Driver, target: Target) -> None:
    """The base answers under its name, whatever one tries."""
    await driver.list()
    await fails(driver.load(target.base, target.good, None), ErrorKind.REFUSED)


async def serves_two_names(driver: Driver, target: Target) -> None:
    """A version is staged beside the served one, also from the same files, and unloaded alone."""
    await driver.load(STAGED, target.good, None)
    await driver.load(NAME, target.good, None)
    await driver.unload(STAGED, target.good)
    shown = (await driver.list()).adapters
    assert shown[NAME] == str(target.good)
    assert STAGED not in shown
    assert await driver.next_tokens(NAME, target.good, PROMPT, 5)


async def says_log_probabilities(driver: Driver, target: Target) -> None:
    """Of token ids, for a text and for ids, and other ones with the adapter."""
    await driver.load(NAME, target.good, None)
    for prompt in (PROMPT, [5, 6, 7]):
        base = await driver.next_tokens(None, None, prompt, 5)
        adapter = await driver.next_tokens(NAME, target.good, prompt, 5)
        for each in (base, adapter):
            assert len(each) >= 5
            assert all(token.isdecimal() and value <= 0 for token, value in each.items())
        assert base != adapter


async def does_not_know_an_unloaded_name(driver: Driver, target: Target) -> None:
    """Nobody gets the base's answer under an adapter's name."""
    await fails(driver.next_tokens(NAME, target.good, PROMPT, 5), ErrorKind.NOT_FOUND)


async def passes_the_probe(driver: Driver, target: Target) -> None:
    """A good adapter has an effect that is seen."""
    await driver.load(NAME, target.good, None)
    result, fault = await probe(driver, NAME, target.good, [], Verify())
    assert fault is None
    assert result.effect is not None
    assert result.effect > 1e-3


CHECKS: Final[tuple[Check, ...]] = (
    lists_the_base_and_no_adapter,
    loads_lists_and_unloads,
    loads_the_same_twice,
    does_not_take_a_name_unasked,
    unloads_an_unknown_name,
    replaces_a_version,
    keeps_the_version_before_a_bad_one,
    refuses_bad_files,
    does_not_take_the_name_of_the_base,
    serves_two_names,
    says_log_probabilities,
    does_not_know_an_unloaded_name,
    passes_the_probe,
)
"""Parametrize a test with them, and `run` each."""


async def fails(call: Awaitable[object], kind: ErrorKind) -> str:
    """Return the message of a call that fails in the way that is meant."""
    with pytest.raises(EngineError) as caught:
        await call
    assert caught.value.kind is kind, caught.value
    assert caught.value.message
    return caught.value.message


def run(check: Check, target: Target, kind: str = "vllm", folder: Path = Path("/adapters")) -> None:
    """Make one check, and leave none of its names in the engine. `folder` is where a driver may make links."""

    async def run_it() -> None:
        async with _driver(target, kind, folder) as driver:
            await check(driver, target)

    asyncio.run(run_it())


@asynccontextmanager
async def _driver(target: Target, kind: str, folder: Path):  # type: ignore[no-untyped-def]
    async with aiohttp.ClientSession() as session:
        driver = make_driver(kind, target.url, target.api_key, session, folder)
        try:
            yield driver
        finally:
            for name in (NAME, STAGED):
                await driver.unload(name, None)
