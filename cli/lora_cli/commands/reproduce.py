"""`kubectl lora reproduce ADAPTER`: the LoRAJob that would train an adapter again, as YAML."""

import argparse
import importlib.metadata
import json
import platform
from collections.abc import Iterable
from typing import Any

import yaml

from lora_api.artifacts import Manifest
from lora_cli.commands.common import show_json
from lora_cli.commands.verify import find
from lora_cli.errors import CliError, failed
from lora_cli.guessed_spec import Document
from lora_cli.local import missing_trainer_parts
from lora_cli.parser import add_cluster, add_output, add_storage
from lora_cli.render.log_line import printable
from lora_cli.reproduction import Origin, Reproduction, reproduce
from lora_cli.storage.adapters import Artifact
from lora_cli.storage.files import open_folder, read
from lora_cli.storage.verification import read_manifest

_ABOUT = (
    "Writes the LoRAJob that would train the adapter again, to stdout: base, data, settings and seed of its manifest."
)
_RELEASE = "lora-operator"
_PYTHON = "python"


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
    made = _reproduction(artifact, manifest)
    if chosen.output == "json":
        proved = made.origin is not Origin.GUESS
        show_json({"lorajob": made.document, "notes": made.notes, "origin": made.origin.value, "proved": proved})
    else:
        # Line by line, so that no text of a manifest can end the comment.
        print("".join(f"# {printable(each)}\n" for each in made.notes), end="")
        print(yaml.safe_dump(made.document, sort_keys=False), end="")
    return 0


def _reproduction(artifact: Artifact, manifest: Manifest) -> Reproduction:
    uri = artifact.folder.uri
    storage = artifact.source.storage.wire() if artifact.source and artifact.source.storage else None
    versions = installed_versions(manifest.versions, complete=not missing_trainer_parts())
    if manifest.request is not None:
        return reproduce(manifest, uri, storage=storage, versions=versions)
    report = _json(artifact, manifest, f"runs/{manifest.job.run}/report.json")
    task_type = str(_json(artifact, manifest, "adapter_config.json").get("task_type") or "")
    return reproduce(manifest, uri, task_type, report, storage, versions)


def installed_versions(names: Iterable[str], *, complete: bool) -> dict[str, str]:
    """Return the versions of what is installed here, of Python and of distributions.

    Not `complete` without the trainer: then only the release is told, as Python and the rest are not those that train.
    """
    found = {}
    for name in names if complete else {_RELEASE}.intersection(names):
        try:
            found[name] = platform.python_version() if name == _PYTHON else importlib.metadata.version(name)
        except (importlib.metadata.PackageNotFoundError, ValueError):
            continue
    return found


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
