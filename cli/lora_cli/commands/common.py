"""What several commands do alike: connect, name one LoRAJob, print."""

import argparse
import json
from typing import Any

from lora_cli.cluster.connection import LORAADAPTERS, LORAJOBS, Cluster, Document, Resource, connect
from lora_cli.errors import failed
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


def show(lines: list[str]) -> None:
    """Print lines. What containers and clusters say in them must not steer the terminal."""
    for each in lines:
        print(printable(each))


def show_json(value: Any) -> None:
    """Print JSON values."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
