"""Folders that are mounted: file:// on a laptop, and pvc:// in a pod, where the operator mounts the claim.

What is written appears whole or not at all: a file is written under a hidden name, flushed to the disk and then
renamed, or linked where it must not replace anything. A claim is read only, and nothing outside its volume is read.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256 as new_sha256
from pathlib import Path
from typing import BinaryIO

from lora_api.exit_codes import ExitCode
from lora_trainer.errors import TrainerError, internal, invalid_request, not_found
from lora_trainer.storage.location import AlreadyExistsError, Location, RemoteFile, Removal

_PART = ".part"
"""End of the hidden names of what is not finished or being removed; no listing has them."""
_COPIED_BYTES = 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_WRONG_KIND = (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


class _MountedFiles:
    """Reads files below a mount; a subclass says which path a location is."""

    def list_files(self, folder: Location) -> list[RemoteFile]:
        """Return every file below a folder, ordered by path; empty when there is none."""
        with _explained(folder):
            root = self.path(folder)
            return sorted(_entry(root, path) for path in _walk(root))

    def read(self, file: Location, start: int | None = None, length: int | None = None) -> bytes:
        """Return the content of a file, or at most `length` bytes of it from `start`."""
        with _explained(file), self.path(file).open("rb") as content:
            content.seek(start or 0)
            return content.read(-1 if length is None else length)

    def download(self, file: Location, target: Path) -> None:
        """Copy the content of a file to another one."""
        with _explained(file):
            shutil.copyfile(self.path(file), target)

    def path(self, location: Location) -> Path:
        """Return where a location is on this machine."""
        raise NotImplementedError


class Claims(_MountedFiles):
    """pvc://claim/path, read where the operator mounted the claims, each under its name."""

    def __init__(self, mounts: Path) -> None:
        self._mounts = mounts

    def path(self, location: Location) -> Path:
        """Return where a location is mounted. Raises 66 when its claim is not, 64 when it leads out of it."""
        volume = self._mounts / location.bucket
        if not volume.is_dir():
            raise not_found(
                f"{location}: the volume of the claim {location.bucket} is not mounted here",
                "run the job in a cluster, or name a folder of this machine with file:///",
            )
        path = (volume / location.key).resolve()  # follows links, such as those of a cache of the hub
        if not path.is_relative_to(volume.resolve()):
            raise invalid_request(f"{location} leads out of the claim {location.bucket}", f"correct {location.field}")
        return path


class LocalFiles(_MountedFiles):
    """file:///path of this machine."""

    def write(self, file: Location, content: bytes) -> None:
        """Store a file, over what is there."""
        with _explained(file), _new_file(self.path(file)) as (part, stream):
            stream.write(content)
            _flush(stream)
            part.replace(self.path(file))

    def create(self, file: Location, content: bytes) -> None:
        """Store a file only where there is none; `AlreadyExistsError` otherwise."""
        with _explained(file), _new_file(self.path(file)) as (part, stream):
            stream.write(content)
            _flush(stream)
            try:
                os.link(part, self.path(file))  # a rename would replace what is there
            except FileExistsError as error:
                raise AlreadyExistsError(file.uri) from error

    def upload(self, source: Path, file: Location, sha256: str) -> None:
        """Copy a file whose SHA-256 is known (hexadecimal). Raises 70 when it has another one."""
        with _explained(file), source.open("rb") as content, _new_file(self.path(file)) as (part, stream):
            digest = new_sha256()
            while block := content.read(_COPIED_BYTES):
                digest.update(block)
                stream.write(block)
            if digest.hexdigest() != sha256:
                raise internal(f"{file} changed while it was copied")
            _flush(stream)
            part.replace(self.path(file))

    def delete(self, file: Location) -> None:
        """Remove a file; no error when there is none."""
        with _explained(file):
            self.path(file).unlink(missing_ok=True)

    def delete_all(self, folder: Location) -> None:
        """Remove a folder with all below it; no error when there is none."""
        with _explained(folder):
            path = self.path(folder)
            if path.is_dir():
                shutil.rmtree(path.rename(_hidden(path)))  # gone at once, however long the removal takes

    def clear(self, folder: Location, first: str, alive: Callable[[], None]) -> Removal:
        """Remove a folder with all below it, also unfinished files; the files named `first` before all others.

        In its place and without a new name, so that doing it again finds what is left. A link is removed, and not what
        it leads to.
        """
        with _explained(folder):
            path = self.path(folder)
            if path.is_symlink():
                path.unlink()
                return Removal(files=1)
            found = [Path(at, name) for at, _, names in os.walk(path, onerror=_raise_unless_missing) for name in names]
            removal = Removal(len(found), sum(each.lstat().st_size for each in found))
            for each in sorted(found, key=lambda each: each.name != first):
                alive()
                each.unlink(missing_ok=True)
            if path.exists():
                shutil.rmtree(path)
            return removal

    def path(self, location: Location) -> Path:
        """Return the path of a location."""
        return Path("/" + location.key)


@contextmanager
def _new_file(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Give a new hidden file beside a path, whose folder is made, and remove it if it is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _hidden(path)
    try:
        with part.open("xb") as stream:
            yield part, stream
    finally:
        part.unlink(missing_ok=True)


def _flush(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PART}")


def _is_unfinished(name: str) -> bool:
    return name.startswith(".") and name.endswith(_PART)


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root, onerror=_raise_unless_missing):
        folders[:] = [name for name in folders if not _is_unfinished(name)]
        yield from (Path(folder, name) for name in names if not _is_unfinished(name))


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def _entry(root: Path, path: Path) -> RemoteFile:
    status = path.stat()
    return RemoteFile(path.relative_to(root).as_posix(), status.st_size, f"{status.st_mtime_ns:x}-{status.st_size:x}")


@contextmanager
def _explained(location: Location) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explain(error, location) from error


def explain(error: OSError, location: Location) -> TrainerError:
    """Return what an error of the file system means for the user: exit code, words and fix."""
    if isinstance(error, FileNotFoundError):
        return not_found(f"{location}: there is no such file", f"correct {location.field}, or put the file there")
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        message = f"{location}: the file system refused the access ({error.strerror})"
        return TrainerError(ExitCode.NO_PERMISSION, message, "give the user that the trainer runs as the right to it")
    if error.errno in _FULL:
        return TrainerError(ExitCode.DISK_FULL, f"{location}: the disk is full", "make room, or use another folder")
    if error.errno in _WRONG_KIND:
        return invalid_request(f"{location}: {error.strerror}", f"correct {location.field}")
    message = f"{location}: the volume has trouble ({error.strerror or type(error).__name__})"
    return TrainerError(ExitCode.SERVICE_UNAVAILABLE, message, "it is tried again; check the volume if it stays")
