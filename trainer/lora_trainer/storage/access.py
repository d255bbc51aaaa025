"""The storage of one job: one set of methods for every URI, whatever its scheme.

It routes and nothing else; what a scheme does is in the module of its name. A backend is made when its first URI is
used, so a job without S3 needs no credentials, and one without the hub never goes there.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from hashlib import file_digest
from pathlib import Path
from typing import Any

from lora_api.artifacts import FileEntry
from lora_api.exit_codes import ExitCode
from lora_api.names import CLAIMS_DIRECTORY
from lora_api.sources import Storage as StorageSpec
from lora_trainer.errors import TrainerError, internal, invalid_request
from lora_trainer.storage.hub import Hub
from lora_trainer.storage.local import Claims, LocalFiles
from lora_trainer.storage.location import Location, RemoteFile, Removal, Sink, Source
from lora_trainer.storage.s3 import S3
from lora_trainer.storage.web import Web

_PARALLEL_FILES = 4


class Storage:
    """Everything that a job reads and writes."""

    def __init__(self, spec: StorageSpec, claims: Path = Path(CLAIMS_DIRECTORY)) -> None:
        self._spec = spec
        self._claims, self._files = Claims(claims), LocalFiles()

    def commit_of(self, location: Location, revision: str) -> str | None:
        """Return the commit that a revision of a hub repository stands for; None where files have no history."""
        return self._hub.commit_of(location, revision) if location.scheme == "hf" else None

    def mounted(self, location: Location) -> Path | None:
        """Return the path of what is mounted here already, which needs no download; None for everything else."""
        match location.scheme:
            case "pvc":
                return self._claims.path(location)
            case "file":
                return self._files.path(location)
        return None

    def list_files(self, folder: Location) -> list[RemoteFile]:
        """Return every file below a folder, ordered by path; empty when there is none."""
        return self._source(folder).list_files(folder)

    def read(self, file: Location, start: int | None = None, length: int | None = None) -> bytes:
        """Return the content of a file, or at most `length` bytes of it from `start`."""
        return self._source(file).read(file, start, length)

    def read_if_there(self, file: Location) -> bytes | None:
        """Return the content of a file, or None when there is none."""
        try:
            return self.read(file)
        except TrainerError as error:
            if error.exit_code == ExitCode.INPUT_NOT_FOUND:
                return None
            raise

    def download(self, file: Location, target: Path) -> None:
        """Write the content of a file to a local file."""
        self._source(file).download(file, target)

    def download_all(self, folder: Location, files: Sequence[RemoteFile], target: Path) -> None:
        """Download files of a folder, a few at a time, and check their sizes."""
        _in_parallel(lambda file: self._fetch(folder, file.path, file.size, target), files)

    def download_verified(self, folder: Location, entries: Sequence[FileEntry], target: Path) -> None:
        """Download files of a folder, a few at a time, and check sizes and SHA-256 (70 when they differ)."""

        def fetch(entry: FileEntry) -> None:
            local = self._fetch(folder, entry.path, entry.size, target)
            with local.open("rb") as content:
                if file_digest(content, "sha256").hexdigest() != entry.sha256:
                    raise internal(f"{folder / entry.path} has another SHA-256 than its manifest says")

        _in_parallel(fetch, entries)

    def write(self, file: Location, content: bytes) -> None:
        """Store a file, over what is there."""
        self._sink(file).write(file, content)

    def create(self, file: Location, content: bytes) -> None:
        """Store a file only where there is none; `AlreadyExistsError` otherwise."""
        self._sink(file).create(file, content)

    def upload(self, source: Path, file: Location, sha256: str) -> None:
        """Store a local file whose SHA-256 is known (hexadecimal); what arrives is checked."""
        self._sink(file).upload(source, file, sha256)

    def upload_all(self, source: Path, entries: Sequence[FileEntry], folder: Location) -> None:
        """Store files of a local folder, a few at a time; what arrives is checked."""
        _in_parallel(lambda entry: self.upload(source / entry.path, folder / entry.path, entry.sha256), entries)

    def delete(self, file: Location) -> None:
        """Remove a file; no error when there is none."""
        self._sink(file).delete(file)

    def delete_all(self, folder: Location) -> None:
        """Remove every file below a folder; no error when there is none."""
        self._sink(folder).delete_all(folder)

    def clear(self, folder: Location, first: str, alive: Callable[[], None]) -> Removal:
        """Remove a folder with all below it, also what listings leave out; the files named `first` before all others.

        Whenever it is cut off, doing it again finishes it. Nothing beside the folder is touched. `alive` is called now
        and then; it may raise.
        """
        return self._sink(folder).clear(folder, first, alive)

    def _fetch(self, folder: Location, path: str, size: int, target: Path) -> Path:
        local = target / path
        local.parent.mkdir(parents=True, exist_ok=True)
        self.download(folder / path, local)
        if local.stat().st_size != size:
            raise internal(f"{folder / path} came with another size than it was listed with")
        return local

    def _source(self, location: Location) -> Source:
        match location.scheme:
            case "hf":
                return self._hub
            case "https":
                return self._web
            case "pvc":
                return self._claims
        return self._sink(location)

    def _sink(self, location: Location) -> Sink:
        match location.scheme:
            case "s3":
                return self._s3
            case "file":
                return self._files
        raise invalid_request(f"{location}: this kind of URI cannot be used here", f"correct {location.field}")

    @cached_property
    def _s3(self) -> S3:
        return S3(self._spec)

    @cached_property
    def _hub(self) -> Hub:
        return Hub.from_environment()

    @cached_property
    def _web(self) -> Web:
        return Web()


def _in_parallel(step: Callable[[Any], object], items: Iterable[Any]) -> None:
    pool = ThreadPoolExecutor(_PARALLEL_FILES)
    try:
        list(pool.map(step, items))
    finally:  # after a failure or a signal, do not wait for the others
        pool.shutdown(wait=False, cancel_futures=True)
