"""What a folder somewhere is to the download: small files, sizes, and content that can go on where it broke off."""

from collections.abc import Iterator
from typing import Protocol

PIECE_BYTES = 2**20
"""Bytes read at once; what a download holds in memory."""


class BrokenOffError(Exception):
    """The connection ended, or nobody answered; another attempt may help. The text has no URL."""


class Folder(Protocol):
    """A folder with an adapter. Its methods raise `FaultError` for what another attempt does not change at once."""

    def size_of(self, name: str) -> int | None:
        """Return the size of a file in bytes; None when there is no such file. Raises `BrokenOffError`."""

    def pieces(self, name: str, start: int) -> Iterator[bytes]:
        """Give the content of a file from byte `start` on. Raises `BrokenOffError`, also when the end is missing."""
