"""`kubectl lora list`: the LoRAJobs of a namespace, or of all."""

import argparse
from datetime import UTC, datetime
from typing import Any

from lora_cli.cluster.connection import LORAJOBS
from lora_cli.commands.common import cluster_of, show, show_json
from lora_cli.display import say
from lora_cli.parser import add_all_namespaces, add_cluster, add_output
from lora_cli.render.listing import job_table


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("list", help="list LoRAJobs")
    add_cluster(parser)
    add_all_namespaces(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """List them."""
    cluster = cluster_of(chosen)
    jobs = cluster.list(LORAJOBS, everywhere=chosen.all_namespaces)
    if chosen.output == "json":
        show_json(jobs)
    elif jobs:
        show(job_table(jobs, datetime.now(UTC), everywhere=chosen.all_namespaces))
    else:
        say("no LoRAJobs" + ("" if chosen.all_namespaces else f" in namespace {cluster.namespace}; -A looks in all"))
    return 0
