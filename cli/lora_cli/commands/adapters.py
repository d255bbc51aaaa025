"""`kubectl lora adapters`: the LoRAAdapters with base, version, pods and the engines' verdicts."""

import argparse
from datetime import UTC, datetime
from typing import Any

from lora_cli.cluster.connection import LORAADAPTERS
from lora_cli.commands.common import cluster_of, show, show_json
from lora_cli.display import say
from lora_cli.parser import add_all_namespaces, add_cluster, add_output
from lora_cli.render.listing import adapter_table, adapter_troubles


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("adapters", help="list LoRAAdapters, and what is wrong with them")
    add_cluster(parser)
    add_all_namespaces(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """List them, and below them what is wrong."""
    cluster = cluster_of(chosen)
    adapters = cluster.list(LORAADAPTERS, everywhere=chosen.all_namespaces)
    if chosen.output == "json":
        show_json(adapters)
    elif adapters:
        show(adapter_table(adapters, datetime.now(UTC), everywhere=chosen.all_namespaces))
        troubles = adapter_troubles(adapters)
        show(["", *troubles] if troubles else [])
    else:
        where = "" if chosen.all_namespaces else f" in namespace {cluster.namespace}; -A looks in all"
        say(f"no LoRAAdapters{where}")
    return 0
