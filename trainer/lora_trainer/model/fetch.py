"""Brings a base model to the local disk: its small files for the preflight, all of it for the training.

What is mounted is not copied. Any other model is shared by revision, between runs of a laptop, between the processes of
a pod, and between jobs on the volume of `spec.baseModel.cacheClaimName`. It is there whole or not at all, whoever is
killed while it is downloaded.
"""

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_api.exit_codes import ExitCode
from lora_api.names import BASE_CACHE_VARIABLE
from lora_trainer.errors import TrainerError, invalid_request
from lora_trainer.logs import log, warn
from lora_trainer.model.base import SMALL_SUFFIXES, BaseModel
from lora_trainer.storage.access import Storage
from lora_trainer.storage.local import explain
from lora_trainer.storage.location import Location
from lora_trainer.workspace import Workspace

_THERE_ALREADY = (errno.EEXIST, errno.ENOTEMPTY)
_CACHE_FIELD = "spec.baseModel.cacheClaimName"


def download_small_files(storage: Storage, base: BaseModel, workspace: Workspace) -> Path:
    """Bring config and tokenizer into the workspace, and return their folder."""
    folder = workspace.run_folder("base-config")
    storage.download_all(base.source, [file for file in base.files if file.path.endswith(SMALL_SUFFIXES)], folder)
    return folder


def download_base(storage: Storage, base: BaseModel, workspace: Workspace) -> Path:
    """Return the folder with the whole model of this revision, downloaded unless it is here already.

    Raises `TrainerError`: 74 when it does not fit, 64 when it changed meanwhile, 77 when the cache is not writable.
    """
    mounted = storage.mounted(base.source)
    if mounted is not None:
        return _linked(mounted, base, workspace.run_folder("base"))
    cache = os.environ.get(BASE_CACHE_VARIABLE)
    if not cache:
        return _shared(storage, base, workspace.folder("bases"))
    try:
        bases = Path(cache) / "bases"
        bases.mkdir(exist_ok=True)
        return _shared(storage, base, bases)
    except OSError as error:
        raise explain(error, Location(cache, _CACHE_FIELD)) from error


def _linked(mounted: Path, base: BaseModel, folder: Path) -> Path:
    """Return a folder with links to the files of the model, and to no other file beside them."""
    for file in base.files:
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.path).symlink_to(mounted / file.path)
    return folder


def _shared(storage: Storage, base: BaseModel, bases: Path) -> Path:
    folder = bases / base.revision.removeprefix("sha256:")[:40]
    if folder.is_dir():
        log("base model is there already", revision=base.revision)
        return folder
    with _locked(bases / f".{folder.name}.lock") as alone:
        if alone:  # what is left is of a process that was killed
            for left in bases.glob(f".{folder.name}.*.part"):
                shutil.rmtree(left, ignore_errors=True)
        if not folder.is_dir():
            _bring(storage, base, folder)
    return folder


def _bring(storage: Storage, base: BaseModel, folder: Path) -> None:
    """Download the model beside its folder, and rename it when it is whole."""
    _check_room(base, folder.parent)
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    part.mkdir()
    try:
        storage.download_all(base.source, base.files, part)
        _check_unchanged(storage, base)
        for file in base.files:
            _flush(part / file.path)
        part.rename(folder)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if not isinstance(error, OSError) or error.errno not in _THERE_ALREADY:
            raise  # else another process was faster, on a volume without locks


def _check_unchanged(storage: Storage, base: BaseModel) -> None:
    if not set(storage.list_files(base.source)).issuperset(base.files):
        raise invalid_request(f"{base.location} changed while it was read", "apply again")


def _check_room(base: BaseModel, bases: Path) -> None:
    size, free = sum(file.size for file in base.files), shutil.disk_usage(bases).free
    if size > free:
        raise TrainerError(
            ExitCode.DISK_FULL,
            f"the base model has {size / 2**30:.1f} GiB, and its volume {free / 2**30:.1f} GiB free",
            f"raise spec.resources.scratch, or make room on the volume of {_CACHE_FIELD}",
        )


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Wait until no other process has the lock, and yield True; False on a volume that knows no locks."""
    with path.open("wb") as file:
        yield _lock(file.fileno())


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log("waiting for another process that downloads the same base model")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        warn("the volume of the base models has no locks; two jobs may download the same", error=error.strerror)
        return False
    return True


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
