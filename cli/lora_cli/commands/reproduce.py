"""`kubectl lora reproduce ADAPTER`: the LoRAJob that would train an adapter again, as YAML."""

import argparse
import json
from typing import Any

import yaml

from lora_api.artifacts import Manifest
from lora_cli.commands.common import show_json
from lora_cli.commands.verify import find
from lora_cli.errors import CliError, failed
from lora_cli.parser import add_cluster, add_output, add_storage
from lora_cli.reproduction import Document, reproduce
from lora_cli.storage.adapters import Artifact
from lora_cli.storage.files import open_folder, read
from lora_cli.storage.verification import read_manifest

_ABOUT = (
    "Writes the LoRAJob that would train the adapter again, to stdout: base, data, settings and seed of its manifest."
)


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("reproduce", help="write the LoRAJob that trains an adapter again", description=_ABOUT)
    parser.add_argument("adapter", help="s3://bucket/path, a path, or the name of a LoRAAdapter")
    add_cluster(parser)
    add_storage(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Read the manifest and write the LoRAJob."""
    artifact = find(chosen)
    manifest = read_manifest(artifact.folder)
    if manifest.kind != "Adapter":
        raise failed(f"{artifact.folder.uri} holds a {manifest.kind}", f"name the adapter {manifest.adapter}")
    if artifact.digest and artifact.digest != manifest.digest:
        raise failed(f"{artifact.folder.uri} holds {manifest.digest}", f"{artifact.digest} was expected")
    stored = artifact.source.storage.wire() if artifact.source and artifact.source.storage else None
    report = _json(artifact, manifest, f"runs/{manifest.job.run}/report.json")
    task = str(_json(artifact, manifest, "adapter_config.json").get("task_type") or "")
    made = reproduce(manifest, artifact.folder.uri, task, report, stored)
    if chosen.output == "json":
        show_json({"lorajob": made.document, "notes": made.notes, "proved": made.proved})
    else:
        print("".join(f"# {each}\n" for each in made.notes) + yaml.safe_dump(made.document, sort_keys=False), end="")
    return 0


def _json(artifact: Artifact, manifest: Manifest, path: str) -> Document:
    """Return a JSON file of the adapter or of its run; nothing if it cannot be read: it only adds."""
    folder = artifact.folder
    try:
        if path.startswith("runs/"):
            job = manifest.job
            root, found, _ = folder.uri.rpartition(f"/{job.namespace}/{job.name}/")
            if not found:
                return {}
            storage = artifact.source.storage if artifact.source else None
            content = read(open_folder(f"{root}{found}".rstrip("/"), storage, artifact.endpoint), path)
        else:
            content = read(folder, path)
        found_json = json.loads(content)
    except (CliError, ValueError):
        return {}
    return found_json if isinstance(found_json, dict) else {}
