"""Publication: a folder of files becomes an artifact when its manifest is written, last and once.

The folder is named by the digest of its files, so the same training published twice is one adapter, and a
publication that was killed half-way is finished by the next one. Nothing that has a manifest is ever changed. Other
forms of the adapter, merged or for llama.cpp, are artifacts of their own. Documents lie beside the files without being
part of the digest, which names only what decides what the adapter does.
"""

import hashlib
from pathlib import Path

from lora_api.artifacts import MANIFEST_NAME, FileEntry, Manifest
from lora_trainer.context import Context
from lora_trainer.errors import internal
from lora_trainer.logs import log
from lora_trainer.storage.location import AlreadyExistsError, Location

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def base_name(uri: str) -> str:
    """Return what an engine calls the base: owner/name for a model of the hub, else the URI."""
    return uri.removeprefix("hf://")


def file_entries(folder: Path) -> list[FileEntry]:
    """Return every file below a folder with size and SHA-256, ordered by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [entry(folder, path) for path in files]


def entry(folder: Path, path: Path) -> FileEntry:
    """Return the entry of one file below a folder."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(path=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=digest)


def publish(context: Context, folder: Path, manifest: Manifest) -> Location:
    """Upload the files of a manifest, then the manifest, check what arrived, and return the artifact's location.

    Raises `TrainerError`: 70 when the stored files differ from the manifest, and what `storage` explains.
    """
    target = context.output(context.layout.artifact(manifest.kind, manifest.digest))
    if _is_published(context, target, manifest.digest):
        log("published already", kind=manifest.kind, uri=target.uri)
        return target
    context.storage.upload_all(folder, [*manifest.files, *manifest.documents], target)
    _check_listing(context, target, manifest)
    try:
        context.storage.create(target / MANIFEST_NAME, manifest.encode())
    except AlreadyExistsError:
        log("another process published the same files at the same time", uri=target.uri)
    if not _is_published(context, target, manifest.digest):
        raise internal(f"spec.output.uri: {target.uri} has no manifest after it was written", "check the S3 server")
    log("published", kind=manifest.kind, uri=target.uri, digest=manifest.digest)
    return target


def _is_published(context: Context, target: Location, digest: str) -> bool:
    stored = context.storage.read_if_there(target / MANIFEST_NAME)
    if stored is None:
        return False
    manifest = Manifest.model_validate_json(stored)
    if manifest.digest != digest:
        raise internal(f"{target.uri} holds the manifest of {manifest.digest}", "remove the folder")
    _check_listing(context, target, manifest)
    return True


def _check_listing(context: Context, target: Location, manifest: Manifest) -> None:
    stored = {file.path: file.size for file in context.storage.list_files(target)}
    wrong = [entry.path for entry in manifest.files if stored.get(entry.path) != entry.size]
    if wrong:
        raise internal(
            f"spec.output.uri: {target.uri}/{wrong[0]} is missing or has another size", "check the S3 server"
        )
