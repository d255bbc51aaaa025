"""`kubectl lora why NAME`: why a LoRAJob or a LoRAAdapter is as it is. Exit code 1 when somebody has to act."""

import argparse
from typing import Any

from lora_cli.cluster.collect import Collector
from lora_cli.cluster.connection import LORAJOBS
from lora_cli.commands.common import cluster_of, show, show_json
from lora_cli.errors import FAILED
from lora_cli.explain.adapter import explain_adapter
from lora_cli.explain.job import explain_job
from lora_cli.explain.snapshot import Standing
from lora_cli.parser import add_cluster, add_output
from lora_cli.render.why import why_lines


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("why", help="explain why a LoRAJob or LoRAAdapter is as it is")
    parser.add_argument("name", help="NAME, lorajob/NAME or loraadapter/NAME; a name alone means both")
    add_cluster(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Collect, decide, print."""
    cluster = cluster_of(chosen)
    found = Collector(cluster).named(chosen.name)
    explanations = [
        (explain_job if resource is LORAJOBS else explain_adapter)(Collector(cluster).snapshot(resource, document))
        for resource, document in found
    ]
    if chosen.output == "json":
        show_json([each.as_json() for each in explanations])
    else:
        for number, each in enumerate(explanations):
            show([""] * bool(number) + why_lines(each))
    return FAILED if any(each.verdict.standing == Standing.TROUBLE for each in explanations) else 0
