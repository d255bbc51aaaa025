"""The adapters on disk: one folder a digest, complete and verified or not there at all.

A folder appears by a rename, after its record was written beside it, and its name is its content, so it is never
changed. What a dying agent leaves half done has a name that begins with `.tmp-`, and is removed at the next start.
"""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError

from lora_agent import logs
from lora_agent.transfer.protocol import StoreRecord
from lora_api.artifacts import MANIFEST_NAME, FileEntry, Manifest, digest_of
from lora_api.names import STORE_DIRECTORY

_TEMPORARY = ".tmp-"
_FOLDER = re.compile(r"^sha256-([0-9a-f]{64})$")
_RECORD = re.compile(r"^sha256-[0-9a-f]{64}\.json$")
_PIECE_BYTES = 2**20


class StoppedError(Exception):
    """The agent ends; nobody waits for the answer."""


class Store:
    """The folder of adapters. Its methods do I/O and are called from a thread where they take long."""

    def __init__(self, adapters: Path) -> None:
        self.folder = adapters / STORE_DIRECTORY

    def path_of(self, digest: str) -> Path:
        """Return the folder of a digest, whether it is there or not."""
        return self.folder / digest.replace(":", "-")

    def digest_at(self, path: str) -> str | None:
        """Return the digest that a path of this store stands for; None for every other path."""
        place = Path(path)
        found = _FOLDER.match(place.name)
        return f"sha256:{found[1]}" if found and place.parent == self.folder else None

    def open(self, stopped: Callable[[], bool] = lambda: False) -> dict[str, StoreRecord]:
        """Remove what is half done or damaged, and return the records of the rest by digest.

        Reads every byte. Raises `StoppedError` soon after `stopped` says so.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)  # the engine may run as another user
        for each in self.folder.glob(f"{_TEMPORARY}*"):
            _delete(each)
        whole = {}
        for folder in sorted(each for each in self.folder.iterdir() if _FOLDER.match(each.name)):
            record = self._read_record(folder)
            if record is not None and _verified(folder, record, stopped):
                whole[record.digest] = record
            else:
                logs.warn("removed a damaged adapter", folder=folder.name)
                self._withdraw(folder)
        self._drop_lonely_records(whole)
        return whole

    def new_folder(self) -> Path:
        """Return an empty folder to download into."""
        folder = self.folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
        folder.mkdir(parents=True)
        return folder

    def discard(self, folder: Path) -> None:
        """Remove a folder that `new_folder` gave, if it is still there."""
        _delete(folder)

    def publish(self, folder: Path, record: StoreRecord) -> None:
        """Make a filled folder that of its digest. What is there already under the digest stays: it is the same."""
        target = self.path_of(record.digest)
        _sync_folders(folder)
        self.write_record(record)
        if target.exists():
            _delete(folder)
        else:
            folder.chmod(0o755)
            folder.rename(target)
        _sync(self.folder)

    def write_record(self, record: StoreRecord) -> None:
        """Write what a folder holds beside it."""
        write_whole(self._record_path(record.digest), record.model_dump_json(by_alias=True).encode())

    def remove(self, digest: str) -> None:
        """Remove the folder of a digest. One that is half removed is not found again."""
        self._withdraw(self.path_of(digest))

    def manifest_of(self, record: StoreRecord) -> Manifest | None:
        """Return the manifest of an adapter; None if it came without."""
        if record.manifest is None:
            return None
        return Manifest.model_validate_json((self.path_of(record.digest) / MANIFEST_NAME).read_bytes())

    def _withdraw(self, folder: Path) -> None:
        withdrawn = self.folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
        if folder.exists():
            folder.rename(withdrawn)
        folder.with_name(f"{folder.name}.json").unlink(missing_ok=True)
        _delete(withdrawn)

    def _record_path(self, digest: str) -> Path:
        return self.folder / f"{digest.replace(':', '-')}.json"

    def _read_record(self, folder: Path) -> StoreRecord | None:
        try:
            record = StoreRecord.model_validate_json(folder.with_name(f"{folder.name}.json").read_bytes())
        except (OSError, ValidationError):
            return None
        same = record.digest == self.digest_at(str(folder)) == digest_of(record.files)
        return record if same else None

    def _drop_lonely_records(self, whole: Mapping[str, StoreRecord]) -> None:
        kept = {self._record_path(digest) for digest in whole}
        for each in self.folder.iterdir():
            if _RECORD.match(each.name) and each not in kept:
                each.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there with its whole content or as it was before, also after a crash."""
    temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
    with temporary.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def _verified(folder: Path, record: StoreRecord, stopped: Callable[[], bool]) -> bool:
    """Return whether a folder holds exactly the files of its record."""
    wanted = {entry.path: entry for entry in record.entries}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    if found != set(wanted):
        return False
    return all(_intact(folder / entry.path, entry, stopped) for entry in record.entries)


def _intact(path: Path, entry: FileEntry, stopped: Callable[[], bool]) -> bool:
    try:
        if path.is_symlink() or path.stat().st_size != entry.size:
            return False
        content = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                if stopped():
                    raise StoppedError
                content.update(piece)
    except OSError:
        return False
    return content.hexdigest() == entry.sha256


def _sync_folders(folder: Path) -> None:
    """Write the names in a folder through to the disk; the files themselves were by whoever wrote them."""
    for each in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        _sync(each)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
