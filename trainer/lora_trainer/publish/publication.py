"""Publication: a folder of files becomes an adapter when its manifest is written, last and once.

The folder is named by the digest of its files, so the same training published twice is one adapter, and a
publication that was killed half-way is finished by the next one. Nothing that has a manifest is ever changed.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from lora_api.artifacts import MANIFEST_NAME, FileEntry, Manifest
from lora_trainer.context import Context
from lora_trainer.errors import internal
from lora_trainer.logs import log
from lora_trainer.storage.s3 import AlreadyExistsError, Location

ADAPTER_CONFIG = "adapter_config.json"
_NOT_PUBLISHED = {"auto_mapping", "parent_library", "revision"}
_KEPT = (ADAPTER_CONFIG, "adapter_model.safetensors")


def save_adapter(model: Any, folder: Path, base_uri: str) -> dict[str, Any]:
    """Write a PEFT model's adapter to a folder, the same bytes for the same weights, and return its config.

    The whole embeddings are never saved beside it, which engines refuse; the base is named by its URI, not by the
    folder it was loaded from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, save_embedding_layers=False)
    for extra in folder.iterdir():
        if extra.name not in _KEPT:
            extra.unlink()
    path = folder / ADAPTER_CONFIG
    config = {key: value for key, value in json.loads(path.read_text()).items() if key not in _NOT_PUBLISHED}
    config |= {"base_model_name_or_path": base_uri, "target_modules": sorted(config["target_modules"])}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return config


def file_entries(folder: Path) -> list[FileEntry]:
    """Return every file below a folder with size and SHA-256, ordered by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [_entry(folder, path) for path in files]


def publish(context: Context, folder: Path, manifest: Manifest) -> Location:
    """Upload the files of a manifest, then the manifest, check what arrived, and return the adapter's location.

    Raises `TrainerError`: 70 when the stored files differ from the manifest, and what `storage` explains.
    """
    target = context.output(context.layout.adapter(manifest.digest))
    if _is_published(context, target, manifest.digest):
        log("adapter is published already", uri=target.uri)
        return target
    for entry in manifest.files:
        context.storage.upload(folder / entry.path, target / entry.path, entry.sha256)
    _check_listing(context, target, manifest)
    try:
        context.storage.create(target / MANIFEST_NAME, manifest.encode())
    except AlreadyExistsError:
        log("another process published the adapter at the same time", uri=target.uri)
    if not _is_published(context, target, manifest.digest):
        raise internal(f"spec.output.uri: {target.uri} has no manifest after it was written", "check the S3 server")
    log("adapter published", uri=target.uri, digest=manifest.digest)
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


def _entry(folder: Path, path: Path) -> FileEntry:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(path=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=digest)
