"""Whether an artifact is what its manifest says, to the last byte: each file is hashed while it is read."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from lora_api.artifacts import MANIFEST_NAME, CheckpointManifest, FileEntry, Manifest, digest_of
from lora_cli.errors import CliError, failed
from lora_cli.storage.files import Folder, NotThereError, read


@dataclass(frozen=True)
class Checked:
    """What became of one file, or of the digest of the whole."""

    path: str
    size: int
    fault: str = ""
    """Empty when it is as the manifest says."""


def read_manifest(folder: Folder) -> Manifest:
    """Return the manifest of an adapter, or of another form of one. Raises `CliError`."""
    try:
        content = read(folder, MANIFEST_NAME)
    except NotThereError:
        raise failed(
            f"{folder.uri} holds no {MANIFEST_NAME}",
            "it is no artifact of a job, or the rest of an upload that was cut off: do not use it",
        ) from None
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        if _is_checkpoint(content):
            raise failed(f"{folder.uri} holds a checkpoint", "name the folder of an adapter, under adapters/") from None
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise failed(f"{folder.uri}/{MANIFEST_NAME}: {where}: {first['msg']}", "publish the adapter again") from None


def _is_checkpoint(content: bytes) -> bool:
    try:
        CheckpointManifest.model_validate_json(content)
    except ValidationError:
        return False
    return True


def check(
    folder: Folder, manifest: Manifest, expected: str | None, show: Callable[[str, int], None] = lambda _, __: None
) -> Iterator[Checked]:
    """Yield what became of the digest, of each file, and of files that the manifest does not list.

    `expected` is the digest that whoever asks has from elsewhere; `show` is told each path and how many bytes of it
    were read.
    """
    yield _check_digest(folder, manifest, expected)
    for entry in [*manifest.files, *manifest.documents]:
        yield _check_file(folder, entry, show)
    listed = {entry.path for entry in [*manifest.files, *manifest.documents]} | {MANIFEST_NAME}
    for path, size in folder.files().items():
        if path not in listed:
            yield Checked(path, size, "is not in the manifest")


def _check_digest(folder: Folder, manifest: Manifest, expected: str | None) -> Checked:
    found = digest_of(manifest.files)
    named = folder.uri.rstrip("/").rpartition("/")[2].replace("sha256-", "sha256:")
    faults = [
        f"the list of files has {found}" if found != manifest.digest else "",
        f"its folder is named {named}" if named.startswith("sha256:") and named != manifest.digest else "",
        f"{expected} was expected" if expected and expected != manifest.digest else "",
    ]
    return Checked(f"digest {manifest.digest}", 0, "; ".join(each for each in faults if each))


def _check_file(folder: Folder, entry: FileEntry, show: Callable[[str, int], None]) -> Checked:
    hashed, size = hashlib.sha256(), 0
    try:
        for piece in folder.pieces(entry.path):
            hashed.update(piece)
            size += len(piece)
            show(entry.path, size)
    except NotThereError:
        return Checked(entry.path, 0, "is missing")
    except CliError as error:
        return Checked(entry.path, size, f"cannot be read: {error}")
    if size != entry.size:
        return Checked(entry.path, size, f"has {size} bytes, the manifest says {entry.size}")
    if hashed.hexdigest() != entry.sha256:
        return Checked(entry.path, size, f"has SHA-256 {hashed.hexdigest()}, the manifest says {entry.sha256}")
    return Checked(entry.path, size)
