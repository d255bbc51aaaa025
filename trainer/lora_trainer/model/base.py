"""The base model where it lies: which files it is, its revision, and its shape, without reading a weight.

A folder in Hugging Face layout with safetensors, in a bucket, on a volume or on the hub. Only the files named here are
ever read; code and pickles beside them are never touched.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from lora_api.training import Task
from lora_trainer.errors import TrainerError, invalid_request, not_found
from lora_trainer.model.targets import Shape, linear_layers
from lora_trainer.storage.access import Storage
from lora_trainer.storage.location import Location, RemoteFile

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
SMALL_SUFFIXES = (".json", ".txt", ".model", ".jinja")
_HEADER_GUESS_BYTES = 2**18
_HEADER_LIMIT_BYTES = 100 * 2**20  # the limit of the format itself
_PARALLEL_HEADERS = 8
_UNLIMITED = 2**20
_COUNT_FROM_PADDING = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "data2vec-text"}
"""Families whose positions begin after the number of the padding token, so that many fewer are usable."""


@dataclass(frozen=True)
class BaseModel:
    """A base model that was found."""

    location: Location
    """As the job names it."""
    commit: str | None
    """Commit of a hub repository; None elsewhere."""
    files: tuple[RemoteFile, ...]
    """The files that make the model: config, tokenizer, weights."""
    config: dict[str, Any]
    """Content of config.json."""
    shapes: dict[str, tuple[int, ...]]
    """Shape of each weight, by its name."""

    @property
    def revision(self) -> str:
        """The commit, or `sha256:<hex>` of the canonical listing (path, size, tag): another upload is another one."""
        if self.commit:
            return self.commit
        listing = json.dumps([list(file) for file in self.files], separators=(",", ":"))
        return "sha256:" + hashlib.sha256(listing.encode()).hexdigest()

    @property
    def source(self) -> Location:
        """Where its files are read: the same at any time of the job."""
        return pinned(self.location, self.commit)

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
        if self.config.get("is_encoder_decoder") and self.config.get("relative_attention_num_buckets"):
            return _UNLIMITED  # T5 places by distance; its n_positions is what it was trained with
        names = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
        places = int(next((self.config[name] for name in names if self.config.get(name)), _UNLIMITED))
        offset = int(self.config.get("pad_token_id") or 0) + 1
        return places - offset if self.config.get("model_type") in _COUNT_FROM_PADDING else places

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Tokens that end a sequence, as the config has them."""
        value = self.config.get("eos_token_id")
        return tuple(value) if isinstance(value, list) else () if value is None else (int(value),)


def describe_base(storage: Storage, location: Location, revision: str, task: Task) -> BaseModel:
    """List the files, read config and weight headers, and refuse what cannot be trained for the task.

    `revision` is a branch, tag or commit of the hub, and means nothing elsewhere. Raises `TrainerError`: 66 for a
    folder that is no model, 64 for one that this trainer does not load, 77 for one that is gated.
    """
    commit = storage.commit_of(location, revision)
    source = pinned(location, commit)
    listed = {file.path: file for file in storage.list_files(source)}
    if "config.json" not in listed:
        what = "there is nothing in this folder" if not listed else "there is no config.json in this folder"
        raise not_found(f"{location}: {what}", "name a folder with config.json, tokenizer and safetensors")
    config = _json(storage, source / "config.json")
    _refuse_untrainable(config, location, task)
    weights = _weight_files(storage, source, listed)
    small = [file for path, file in listed.items() if "/" not in path and path.endswith(SMALL_SUFFIXES)]
    return BaseModel(location, commit, tuple(sorted([*small, *weights])), config, _shapes(storage, source, weights))


def pinned(location: Location, commit: str | None) -> Location:
    """Return the location of one commit."""
    return Location(f"{location.uri}@{commit}", location.field) if commit else location


def _refuse_untrainable(config: dict[str, Any], location: Location, task: Task) -> None:
    if "auto_map" in config:
        raise invalid_request(
            f"{location} needs code of its own (auto_map), which is never run",
            "use a model whose architecture transformers knows",
        )
    if config.get("quantization_config"):
        raise invalid_request(
            f"{location} is quantized already, which is not supported",
            "use the model in bfloat16 or float32; spec.quantization quantizes it on the GPU",
        )
    architecture = str((config.get("architectures") or ["unknown"])[0])
    if task is Task.CAUSAL_LM and not architecture.endswith(("ForCausalLM", "LMHeadModel")):
        raise invalid_request(
            f"{location} is a {architecture}; the task CausalLM needs a causal language model",
            "use a model whose architecture ends with ForCausalLM",
        )
    if task is Task.SEQ2SEQ_LM and not config.get("is_encoder_decoder"):
        raise invalid_request(
            f"{location} is a {architecture}; the task Seq2SeqLM needs an encoder with a decoder",
            "use a model such as T5, or the task CausalLM",
        )


def _weight_files(storage: Storage, location: Location, listed: Mapping[str, RemoteFile]) -> list[RemoteFile]:
    if _INDEX in listed:
        names = sorted(set(_json(storage, location / _INDEX).get("weight_map", {}).values()))
    elif _SINGLE in listed:
        names = [_SINGLE]
    else:
        raise invalid_request(
            f"{location} has no {_SINGLE}; only safetensors are loaded, as a pickle runs code",
            "save the model with save_pretrained",
        )
    missing = [name for name in names if name not in listed]
    if missing:
        raise not_found(
            f"{location} lacks {missing[0]} ({len(missing)} files of its index)",
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
        raise invalid_request(f"{file} is no JSON object", "upload the model again")
    return content


def _broken(file: Location) -> TrainerError:
    return invalid_request(f"{file} is no safetensors file", "upload the model again")
