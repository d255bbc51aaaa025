"""`kubectl lora list`: the LoRAJobs of a namespace, or of all."""

from typing import Any

from lora_cli.cluster.connection import LORAJOBS
from lora_cli.commands.common import add_listing
from lora_cli.render.listing import job_table


def add(commands: Any) -> None:
    """Add the command."""
    add_listing(commands, "list", "list LoRAJobs", LORAJOBS, job_table)
