"""The files of the page, read once from the package; nothing else can be asked for by a path."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    content_type: str
    body: bytes
    etag: str


def read_assets() -> dict[str, Asset]:
    """Return every file of the page by its name."""
    folder = files("lora_operator.dashboard") / "static"
    return {
        each.name: _asset(each.name, each.read_bytes()) for each in folder.iterdir() if _suffix(each.name) in _TYPES
    }


def etag_of(body: bytes) -> str:
    """Return the name of a content, for requests that ask only whether it has changed."""
    return hashlib.sha256(body).hexdigest()[:32]


def _asset(name: str, body: bytes) -> Asset:
    return Asset(_TYPES[_suffix(name)], body, etag_of(body))


def _suffix(name: str) -> str:
    return name.rpartition(".")[2]
