"""What several commands do alike: connect, name one object, list all of a kind, print."""

import argparse
import functools
import json
import sys
from datetime import UTC, datetime
from typing import Any, Protocol

from lora_cli.cluster.connection import LORAADAPTERS, LORAJOBS, Cluster, Document, Resource, connect
from lora_cli.display import say
from lora_cli.errors import failed
from lora_cli.parser import add_all_namespaces, add_cluster, add_output
from lora_cli.render.log_line import printable


def cluster_of(chosen: argparse.Namespace) -> Cluster:
    """Return the cluster that the command line means."""
    return connect(chosen.kubeconfig, chosen.context, chosen.namespace)


def the_job(cluster: Cluster, name: str) -> Document:
    """Return a LoRAJob. Raises `CliError` when it is not there."""
    return _the(cluster, LORAJOBS, name, "list")


def the_adapter(cluster: Cluster, name: str) -> Document:
    """Return a LoRAAdapter. Raises `CliError` when it is not there."""
    return _the(cluster, LORAADAPTERS, name, "adapters")


def _the(cluster: Cluster, resource: Resource, name: str, command: str) -> Document:
    found = cluster.get(resource, name)
    if found is None:
        raise failed(
            f'there is no {resource.kind} "{name}" in namespace {cluster.namespace}', f"see `kubectl lora {command} -A`"
        )
    return found


class Lines(Protocol):
    """How objects are shown to people; `everywhere` means that they come from all namespaces."""

    def __call__(self, documents: list[Document], now: datetime, /, *, everywhere: bool) -> list[str]:
        """Return the lines."""


def add_listing(commands: Any, name: str, about: str, resource: Resource, lines: Lines) -> None:
    """Add a command that lists the objects of a kind, in a namespace or in all."""
    parser = commands.add_parser(name, help=about)
    add_cluster(parser)
    add_all_namespaces(parser)
    add_output(parser)
    parser.set_defaults(run=functools.partial(_list, resource, lines))


def _list(resource: Resource, lines: Lines, chosen: argparse.Namespace) -> int:
    cluster = cluster_of(chosen)
    found = cluster.list(resource, everywhere=chosen.all_namespaces)
    if chosen.output == "json":
        show_json(found)
    elif found:
        show(lines(found, datetime.now(UTC), everywhere=chosen.all_namespaces))
    else:
        where = "" if chosen.all_namespaces else f" in namespace {cluster.namespace}; -A looks in all"
        say(f"no {resource.kind}s{where}")
    return 0


def show(lines: list[str]) -> None:
    """Print lines. What containers and clusters say in them must not steer the terminal."""
    for each in lines:
        print(printable(each))


def show_json(value: Any) -> None:
    """Print JSON values; with escapes where the output takes less than all of Unicode."""
    print(json.dumps(value, indent=2, ensure_ascii=not (sys.stdout.encoding or "utf-8").lower().startswith("utf")))
