"""The base model as it lies in S3: which files it is, its revision, and its shape, without reading a weight.

A folder in Hugging Face layout with safetensors. Only the files named here are ever downloaded; code and pickles in
the folder are never touched.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from lora_api.exit_codes import ExitCode
from lora_trainer.errors import TrainerError, invalid_request, not_found
from lora_trainer.model.targets import Shape, linear_layers
from lora_trainer.storage.s3 import Location, RemoteFile, Storage
from lora_trainer.workspace import Workspace

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_SMALL_SUFFIXES = (".json", ".txt", ".model", ".jinja")
_HEADER_GUESS_BYTES = 2**18
_HEADER_LIMIT_BYTES = 100 * 2**20  # the limit of the format itself
_COMPLETE = ".complete"
_PARALLEL_HEADERS = 8


@dataclass(frozen=True)
class BaseModel:
    """A base model in S3."""

    location: Location
    files: tuple[RemoteFile, ...]
    """The files that make the model: config, tokenizer, weights."""
    config: dict[str, Any]
    """Content of config.json."""
    shapes: dict[str, tuple[int, ...]]
    """Shape of each weight, by its name."""

    @property
    def revision(self) -> str:
        """`sha256:<hex>` of the canonical listing (path, size, ETag): another upload is another revision."""
        listing = json.dumps([list(file) for file in self.files], separators=(",", ":"))
        return "sha256:" + hashlib.sha256(listing.encode()).hexdigest()

    @property
    def parameters(self) -> int:
        """Number of stored weights; tied ones are stored once."""
        return sum(prod(shape) for shape in self.shapes.values())

    @cached_property
    def layers(self) -> Mapping[str, Shape]:
        """Linear layers by module path."""
        return linear_layers(self.shapes)

    @property
    def max_positions(self) -> int:
        """Longest sequence in tokens that the model can place."""
        names = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
        return int(next((self.config[name] for name in names if self.config.get(name)), 2**20))

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Tokens that end a sequence, as the config has them."""
        value = self.config.get("eos_token_id")
        return tuple(value) if isinstance(value, list) else () if value is None else (int(value),)


def describe_base(storage: Storage, location: Location) -> BaseModel:
    """List the folder, read config and weight headers, and refuse what cannot be trained.

    Raises `TrainerError`: 66 for a folder that is no model, 64 for one that this trainer does not load.
    """
    listed = {file.path: file for file in storage.list_files(location)}
    if "config.json" not in listed:
        what = "there is nothing in this folder" if not listed else "there is no config.json in this folder"
        raise not_found(
            f"{location.field}: {location.uri}: {what}", "name a folder with config.json, tokenizer and safetensors"
        )
    config = _json(storage, location / "config.json")
    _refuse_untrainable(config, location)
    weights = _weight_files(storage, location, listed)
    small = [file for path, file in listed.items() if "/" not in path and path.endswith(_SMALL_SUFFIXES)]
    files = tuple(sorted([*small, *weights]))
    return BaseModel(location, files, config, _shapes(storage, location, weights))


def download_small_files(storage: Storage, base: BaseModel, workspace: Workspace) -> Path:
    """Bring config and tokenizer into the workspace, and return their folder."""
    folder = workspace.folder(f"bases/{base.revision[7:23]}-config")
    storage.download_all(base.location, [file for file in base.files if file.path.endswith(_SMALL_SUFFIXES)], folder)
    return folder


def download_base(storage: Storage, base: BaseModel, workspace: Workspace) -> Path:
    """Bring the whole model into the workspace, unless this revision is there already, and return its folder.

    Raises `TrainerError`: 74 when it does not fit, 64 when it changed meanwhile.
    """
    folder = workspace.folder(f"bases/{base.revision[7:23]}")
    if (folder / _COMPLETE).exists():
        return folder
    size, free = sum(file.size for file in base.files), shutil.disk_usage(folder).free
    if size > free:
        raise TrainerError(
            ExitCode.DISK_FULL,
            f"the base model has {size / 2**30:.1f} GiB, and the scratch volume {free / 2**30:.1f} GiB free",
            "raise spec.resources.scratch",
        )
    storage.download_all(base.location, list(base.files), folder)
    listed = set(storage.list_files(base.location))
    if not listed.issuperset(base.files):
        raise invalid_request(f"{base.location.field}: {base.location.uri} changed while it was read", "apply again")
    (folder / _COMPLETE).touch()
    return folder


def _refuse_untrainable(config: dict[str, Any], location: Location) -> None:
    architecture = str((config.get("architectures") or ["unknown"])[0])
    if "auto_map" in config:
        raise invalid_request(
            f"{location.field}: {location.uri} needs code of its own (auto_map), which is never run",
            "use a model whose architecture transformers knows",
        )
    if not architecture.endswith(("ForCausalLM", "LMHeadModel")):
        raise invalid_request(
            f"{location.field}: {location.uri} is a {architecture}; the task CausalLM needs a causal language model",
            "use a model whose architecture ends with ForCausalLM",
        )
    if config.get("quantization_config"):
        raise invalid_request(
            f"{location.field}: {location.uri} is quantized, which is not supported yet",
            "use the model in bfloat16 or float32",
        )


def _weight_files(storage: Storage, location: Location, listed: Mapping[str, RemoteFile]) -> list[RemoteFile]:
    if _INDEX in listed:
        names = sorted(set(_json(storage, location / _INDEX).get("weight_map", {}).values()))
    elif _SINGLE in listed:
        names = [_SINGLE]
    else:
        raise invalid_request(
            f"{location.field}: {location.uri} has no {_SINGLE}; only safetensors are loaded, as a pickle runs code",
            "save the model with save_pretrained",
        )
    missing = [name for name in names if name not in listed]
    if missing:
        raise not_found(
            f"{location.field}: {location.uri} lacks {missing[0]} ({len(missing)} files of its index)",
            "upload the whole model",
        )
    return [listed[name] for name in names]


def _shapes(storage: Storage, location: Location, weights: list[RemoteFile]) -> dict[str, tuple[int, ...]]:
    with ThreadPoolExecutor(_PARALLEL_HEADERS) as pool:
        headers = list(pool.map(lambda file: _header(storage, location / file.path), weights))
    return {name: tuple(entry["shape"]) for header in headers for name, entry in header.items()}


def _header(storage: Storage, file: Location) -> dict[str, Any]:
    """Return the header of a safetensors file: its length in 8 bytes, little-endian, then JSON."""
    start = storage.read(file, 0, _HEADER_GUESS_BYTES)
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 or length > _HEADER_LIMIT_BYTES:
        raise _broken(file)
    if len(start) < 8 + length:
        start += storage.read(file, len(start), 8 + length - len(start))
    try:
        header: dict[str, Any] = json.loads(start[8 : 8 + length])
        return {name: entry for name, entry in header.items() if name != "__metadata__" and "shape" in entry}
    except (ValueError, AttributeError, TypeError):
        raise _broken(file) from None


def _json(storage: Storage, file: Location) -> dict[str, Any]:
    try:
        content = json.loads(storage.read(file))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise invalid_request(f"{file.field}: {file.uri} is no JSON object", "upload the model again")
    return content


def _broken(file: Location) -> TrainerError:
    return invalid_request(f"{file.field}: {file.uri} is no safetensors file", "upload the model again")
