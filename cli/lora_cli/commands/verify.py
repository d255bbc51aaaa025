"""`kubectl lora verify URI|NAME`: every file of an adapter against its manifest and digest. Exit code 1 on a fault."""

import argparse
from typing import Any

from lora_api.loraadapter import AdapterSource
from lora_cli.commands.common import cluster_of, show_json, the_adapter
from lora_cli.display import say
from lora_cli.errors import FAILED
from lora_cli.explain.reading import adapter_status
from lora_cli.parser import add_cluster, add_output, add_storage
from lora_cli.render.units import size
from lora_cli.storage.adapters import Artifact, is_uri, of_source, of_uri
from lora_cli.storage.verification import Checked, check, read_manifest


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("verify", help="check every byte of an adapter against its manifest")
    parser.add_argument("adapter", help="s3://bucket/path, a path, or the name of a LoRAAdapter")
    add_cluster(parser)
    add_storage(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Check, and say what became of each file."""
    artifact = find(chosen)
    manifest = read_manifest(artifact.folder)
    as_json = chosen.output == "json"
    checked = []
    for each in check(artifact.folder, manifest, artifact.digest):
        checked.append(each)
        if not as_json:
            print(_line(each), flush=True)
    faults = [each for each in checked if each.fault]
    if as_json:
        show_json(
            {
                "uri": artifact.folder.uri,
                "digest": manifest.digest,
                "ok": not faults,
                "files": [{"path": each.path, "size": each.size, "fault": each.fault} for each in checked[1:]],
                "fault": checked[0].fault,
            }
        )
    if faults:
        say(f"{artifact.folder.uri} is not what its manifest says: {len(faults)} faults; publish it again")
    return FAILED if faults else 0


def find(chosen: argparse.Namespace) -> Artifact:
    """Return the artifact that the command line names."""
    if is_uri(chosen.adapter):
        return of_uri(chosen.adapter, chosen)
    document = the_adapter(cluster_of(chosen), chosen.adapter)
    source = AdapterSource.model_validate(document["spec"]["source"])
    # A source without a digest has the one of its first download, and only of the same place.
    known = next((each.digest for each in adapter_status(document).versions if each.source.uri == source.uri), None)
    return of_source(source, source.digest or known, chosen.endpoint)


def _line(checked: Checked) -> str:
    if checked.fault:
        return f"FAULT  {checked.path}: {checked.fault}"
    return f"ok     {checked.path}" + (f"  {size(checked.size)}" if checked.size else "")
