"""Prepared sets in the store, so that a retry or another job of the namespace never tokenises the same rows again.

A set is found by all that decides what it becomes: the bytes of its files, how they are read, the tokenizer and the
versions of what reads them. Its manifest is written last, and what does not agree with it is ignored and made anew:
the cache saves time and can never be the reason that a job fails.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lora_api.artifacts import MANIFEST_NAME, FileEntry
from lora_api.base import StatusModel
from lora_api.lorajob import LoRAJobSpec
from lora_trainer.data.examples import Column, Examples
from lora_trainer.data.prepare import Prepared, SetFacts
from lora_trainer.data.source import Source
from lora_trainer.errors import TrainerError
from lora_trainer.logs import log, warn
from lora_trainer.signals import InterruptionError
from lora_trainer.storage.access import Storage
from lora_trainer.storage.location import AlreadyExistsError, Location

SCHEMA = 1
"""Raised by whoever changes what rows become or how it is stored."""
_FILE = "data.safetensors"
_DIGESTS = "digests"
_VALUES, _OFFSETS = ".values", ".offsets"
_DAMAGES = (ValidationError, SafetensorError, KeyError, ValueError, IndexError)


class PreparedManifest(StatusModel):
    """Content of a prepared set's manifest.json."""

    schema_version: Literal[1] = 1
    kind: Literal["Prepared"] = "Prepared"
    files: list[FileEntry]
    facts: SetFacts


def key_of(
    files_digest: str, source: Source, spec: LoRAJobSpec, tokenizer_digest: str, versions: Mapping[str, str]
) -> str:
    """Return the SHA-256 (hex) of all that decides what a set becomes; `versions` are those of what reads it."""
    content = {
        "schema": SCHEMA,
        "files": files_digest,
        "format": source.format.value,
        "columns": dict(source.columns),
        "task": spec.task.value,
        "objective": spec.objective.value,
        "tokenizer": tokenizer_digest,
        "versions": dict(versions),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class PreparedStore:
    """The prepared sets of a namespace. `scratch` is a local folder for one file at a time."""

    def __init__(self, storage: Storage, folder: Location, scratch: Path) -> None:
        self._storage, self._folder, self._scratch = storage, folder, scratch

    def load(self, key: str) -> Prepared | None:
        """Return a prepared set, or None when it is not there, damaged or out of reach."""
        folder = self._place(key)
        try:
            stored = self._storage.read_if_there(folder / MANIFEST_NAME)
            if stored is None:
                return None
            manifest = PreparedManifest.model_validate_json(stored)
            prepared = self._read(folder, manifest)
        except InterruptionError:
            raise
        except _DAMAGES as error:
            warn("prepared data are damaged and made anew", uri=folder.uri, error=type(error).__name__)
            self._forget(folder)
            return None
        except TrainerError as error:
            warn("prepared data cannot be read and are made anew", uri=folder.uri, error=error.message)
            return None
        log("prepared data found", uri=folder.uri, rows=len(prepared.examples))
        return prepared

    def save(self, key: str, prepared: Prepared) -> None:
        """Store a prepared set, as far as it can be stored."""
        folder = self._place(key)
        try:
            entry = self._written(prepared)
            manifest = PreparedManifest(files=[entry], facts=prepared.facts)
            self._storage.upload(self._scratch / _FILE, folder / _FILE, entry.sha256)
            self._storage.create(folder / MANIFEST_NAME, manifest.model_dump_json(by_alias=True, indent=2).encode())
        except AlreadyExistsError:
            return  # another job prepared the same set at the same time
        except InterruptionError:
            raise
        except (TrainerError, OSError, SafetensorError) as error:
            warn("prepared data are not stored, and the next attempt tokenises again", error=str(error))
            return
        log("prepared data stored", uri=folder.uri, bytes=entry.size)

    def _place(self, key: str) -> Location:
        return self._folder / f"sha256-{key}"

    def _forget(self, folder: Location) -> None:
        """Remove the manifest of a damaged set, so that the set can be stored again."""
        try:
            self._storage.delete(folder / MANIFEST_NAME)
        except InterruptionError:
            raise
        except TrainerError as error:
            warn("damaged prepared data cannot be removed", uri=folder.uri, error=error.message)

    def _read(self, folder: Location, manifest: PreparedManifest) -> Prepared:
        (entry,) = manifest.files
        local = self._scratch / _FILE
        self._storage.download(folder / _FILE, local)
        if _entry(local) != entry:
            raise ValueError("size or SHA-256")
        return _prepared_of(load_file(local), manifest.facts)

    def _written(self, prepared: Prepared) -> FileEntry:
        save_file(_tensors_of(prepared), self._scratch / _FILE)
        return _entry(self._scratch / _FILE)


def _tensors_of(prepared: Prepared) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {_DIGESTS: prepared.digests}
    for name, column in prepared.examples.columns.items():
        tensors |= {name + _VALUES: column.values, name + _OFFSETS: column.offsets}
    return tensors


def _prepared_of(tensors: Mapping[str, np.ndarray], facts: SetFacts) -> Prepared:
    names = [name.removesuffix(_VALUES) for name in tensors if name.endswith(_VALUES)]
    # In a fixed order, as a file keeps none.
    columns = {name: Column(tensors[name + _VALUES], tensors[name + _OFFSETS]) for name in sorted(names)}
    prepared = Prepared(Examples(columns), tensors[_DIGESTS], facts)
    if len(prepared.examples) != len(prepared.digests):
        raise ValueError("rows")
    return prepared


def _entry(local: Path) -> FileEntry:
    with local.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    return FileEntry(path=_FILE, size=local.stat().st_size, sha256=sha256)
