"""What every kind of storage has in common: how a place is named, what a listing gives, and what a backend can do.

A place is a URI together with the field of the job that it came from, so that each failure can say what to change.
Nothing here opens a connection or a file.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from lora_api.request import public_uri


class Location(NamedTuple):
    """A URI, and the field of the job that it came from."""

    uri: str
    field: str

    def __truediv__(self, name: str) -> "Location":
        return Location(f"{self.uri.rstrip('/')}/{name}", self.field)

    def __str__(self) -> str:
        return f"{self.field}: {public_uri(self.uri)}"

    @property
    def scheme(self) -> str:
        """`s3`, `hf`, `pvc`, `https` or `file`."""
        return self.uri.partition("://")[0]

    @property
    def bucket(self) -> str:
        """First part: the bucket, claim, host or owner; empty for file://."""
        return self._parts[0]

    @property
    def key(self) -> str:
        """All after the first part: of an object, or the prefix of a folder without a trailing slash."""
        return self._parts[2].rstrip("/")

    @property
    def _parts(self) -> tuple[str, str, str]:
        return self.uri.partition("://")[2].partition("/")


class RemoteFile(NamedTuple):
    """One file of a listing; `path` is relative to the folder that was listed."""

    path: str
    size: int
    """Bytes."""
    etag: str
    """Another content has another one. What it is made of differs between the backends."""


class Removal(NamedTuple):
    """What was removed."""

    files: int = 0
    bytes: int = 0
    versions_stay: bool = False
    """Whether the store keeps older versions of what was removed."""


class AlreadyExistsError(Exception):
    """A conditional write found a file in its place."""


class Source(Protocol):
    """A storage that is read."""

    def list_files(self, folder: Location) -> list[RemoteFile]:
        """Return every file below a folder, ordered by path; empty when there is none."""

    def read(self, file: Location, start: int | None = None, length: int | None = None) -> bytes:
        """Return the content of a file, or at most `length` bytes of it from `start`."""

    def download(self, file: Location, target: Path) -> None:
        """Write the content of a file to a local file."""


class Sink(Source, Protocol):
    """A storage that is also written."""

    def write(self, file: Location, content: bytes) -> None:
        """Store a file, over what is there."""

    def create(self, file: Location, content: bytes) -> None:
        """Store a file only where there is none; `AlreadyExistsError` otherwise."""

    def upload(self, source: Path, file: Location, sha256: str) -> None:
        """Store a local file whose SHA-256 is known (hexadecimal), and check what arrives."""

    def delete(self, file: Location) -> None:
        """Remove a file; no error when there is none."""

    def delete_all(self, folder: Location) -> None:
        """Remove every file below a folder; no error when there is none."""

    def clear(self, folder: Location, first: str, alive: Callable[[], None]) -> Removal:
        """Remove a folder with all below it, also what listings leave out; the files named `first` before all others.

        Whenever it is cut off, doing it again finishes it. `alive` is called now and then; it may raise.
        """
