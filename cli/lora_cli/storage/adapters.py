"""The folder of an adapter: by URI, or of a LoRAAdapter of the cluster."""

import argparse
from typing import NamedTuple

from lora_api.loraadapter import AdapterSource
from lora_cli.storage.files import Folder, open_folder


class Artifact(NamedTuple):
    """A folder, and what is known of it from elsewhere."""

    folder: Folder
    digest: str | None = None
    source: AdapterSource | None = None
    endpoint: str | None = None
    """Of the command line."""


def is_uri(name: str) -> bool:
    """Return whether a word on the command line is a URI or a path, and no name of a LoRAAdapter."""
    return "/" in name or name.startswith((".", "~"))


def of_uri(uri: str, chosen: argparse.Namespace) -> Artifact:
    """Return the artifact at a URI."""
    return Artifact(open_folder(uri, endpoint=chosen.endpoint), endpoint=chosen.endpoint)


def of_source(source: AdapterSource, digest: str | None, endpoint: str | None) -> Artifact:
    """Return the artifact of a LoRAAdapter."""
    return Artifact(open_folder(source.uri, source.storage, endpoint), digest or source.digest, source, endpoint)
