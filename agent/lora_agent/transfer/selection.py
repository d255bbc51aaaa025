"""Which files of a folder make the adapter, and whether a manifest says so in a way that can be trusted. Pure."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from pydantic import ValidationError

from lora_agent.transfer.protocol import fault_error
from lora_api.artifacts import MANIFEST_NAME, FileEntry, Manifest, digest_of
from lora_api.reasons import Reason

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
PICKLED_NAME = "adapter_model.bin"
_MAX_FILES = 1000
_UNSAFE = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py", ".so"}
"""Endings of files that run code when something loads them."""


def read_manifest(content: bytes, wanted_digest: str | None, where: str) -> Manifest:
    """Return the manifest of an adapter. Raises `FaultError` when it is none, or of other files than those wanted."""
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or MANIFEST_NAME
        raise _no_adapter(f"{where}: {MANIFEST_NAME}: {field}: {first['msg']}") from None
    if manifest.kind != "Adapter":
        message = f"{where}: {MANIFEST_NAME} is of a {manifest.kind} artifact; name the folder of the adapter"
        raise _no_adapter(message)
    _check_files(manifest.files, where)
    found = digest_of(manifest.files)
    if found != manifest.digest:
        raise mismatch(f"{where}: {MANIFEST_NAME} says {manifest.digest}, its list of files has {found}")
    check_digest(found, wanted_digest, where)
    return manifest


def check_digest(found: str, wanted: str | None, where: str) -> None:
    """Raise `FaultError` when the files are others than those wanted."""
    if wanted is not None and found != wanted:
        raise mismatch(f"{where}: the files have digest {found}, wanted is {wanted}")


def check_entry(found: FileEntry, wanted: FileEntry, where: str) -> None:
    """Raise `FaultError` when one file is not what the manifest says."""
    if found != wanted:
        sizes = f"{found.size} bytes came, {MANIFEST_NAME} says {wanted.size}"
        what = sizes if found.size != wanted.size else f"{sizes}, and the SHA-256 differs"
        raise mismatch(f"{where}: {wanted.path}: {what}")


def plain_files(sizes: dict[str, int | None], where: str) -> list[str]:
    """Return the two files of a folder without a manifest, given the sizes of those that are there."""
    if all(size is None for size in sizes.values()):
        message = f"{where}: there is no {CONFIG_NAME} and no {MANIFEST_NAME}; correct spec.source.uri"
        raise fault_error(Reason.INPUT_NOT_FOUND, message)
    if sizes.get(CONFIG_NAME) is None:
        raise _no_adapter(f"{where}: {CONFIG_NAME} is missing; name a folder that PEFT wrote")
    if sizes.get(WEIGHTS_NAME) is None:
        there = f"only {PICKLED_NAME} is there, which can run code" if sizes.get(PICKLED_NAME) else "it is missing"
        raise _no_adapter(f"{where}: {WEIGHTS_NAME}: {there}; convert to safetensors")
    return [CONFIG_NAME, WEIGHTS_NAME]


def mismatch(message: str) -> Exception:
    """Return the exception for content that is not what was promised."""
    return fault_error(Reason.DIGEST_MISMATCH, message)


def _check_files(files: Sequence[FileEntry], where: str) -> None:
    paths = [entry.path for entry in files]
    if len(paths) > _MAX_FILES:
        raise _no_adapter(f"{where}: {MANIFEST_NAME} lists {len(paths)} files, at most {_MAX_FILES} are allowed")
    if len({path.lower() for path in paths}) < len(paths) or MANIFEST_NAME in paths:
        raise _no_adapter(f"{where}: {MANIFEST_NAME} lists a file twice, or itself")
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if name not in paths:
            raise _no_adapter(f"{where}: {MANIFEST_NAME} lists no {name}")
    for path in paths:
        if PurePosixPath(path).suffix.lower() in _UNSAFE:
            raise _no_adapter(f"{where}: {path} can run code when it is loaded; publish the adapter as safetensors")


def _no_adapter(message: str) -> Exception:
    return fault_error(Reason.NOT_AN_ADAPTER, message, permanent=True)
