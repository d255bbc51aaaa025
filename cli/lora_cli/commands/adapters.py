"""`kubectl lora adapters`: the LoRAAdapters with base, version, pods and the engines' verdicts."""

from datetime import datetime
from typing import Any

from lora_cli.cluster.connection import LORAADAPTERS, Document
from lora_cli.commands.common import add_listing
from lora_cli.render.listing import adapter_table, adapter_troubles


def add(commands: Any) -> None:
    """Add the command."""
    add_listing(commands, "adapters", "list LoRAAdapters, and what is wrong with them", LORAADAPTERS, _lines)


def _lines(adapters: list[Document], now: datetime, *, everywhere: bool) -> list[str]:
    """Return the table, and below it what is wrong."""
    troubles = adapter_troubles(adapters)
    return [*adapter_table(adapters, now, everywhere=everywhere), *(["", *troubles] if troubles else [])]
