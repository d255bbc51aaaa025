"""Drivers of the inference engines. Which one a pod has is told by its environment, never guessed here."""

from pathlib import Path

import aiohttp

from lora_agent.drivers.base import Driver
from lora_agent.drivers.client import EngineClient
from lora_agent.drivers.dirwatch import DirwatchDriver
from lora_agent.drivers.lorax import LoraxDriver
from lora_agent.drivers.sglang import SglangDriver
from lora_agent.drivers.static import StaticDriver
from lora_agent.drivers.vllm import VllmDriver

KINDS = ("vllm", "sglang", "lorax", "dirwatch", "static")


def make_driver(
    kind: str, url: str, api_key: str | None, session: aiohttp.ClientSession, adapters_folder: Path
) -> Driver:
    """Return the driver of a kind of engine. Raises ValueError for a kind that is none of `KINDS`."""
    client = EngineClient(url, api_key, session)
    match kind:
        case "vllm":
            return VllmDriver(client)
        case "sglang":
            return SglangDriver(client, adapters_folder)
        case "lorax":
            return LoraxDriver(client)
        case "dirwatch":
            return DirwatchDriver(client, adapters_folder)
        case "static":
            return StaticDriver(client, adapters_folder)
    raise ValueError(f"LORA_ENGINE={kind}: there is no such driver, write one of {', '.join(KINDS)}")
