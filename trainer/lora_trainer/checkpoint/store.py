"""Checkpoints in S3: complete or not there at all, verified before they are believed, and few.

The files come first and the manifest last, and a removal takes the manifest first; so whenever a process dies, what has
a manifest is whole. A checkpoint that is damaged, or of another training, is never resumed and never an error: there
is an older one, or the beginning. Only one process writes the checkpoints of a run.
"""

import re
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from botocore.exceptions import FlexibleChecksumError
from pydantic import ValidationError

from lora_api.artifacts import MANIFEST_NAME, CheckpointManifest
from lora_api.exit_codes import ExitCode
from lora_api.messages import SavedCheckpoint
from lora_trainer.checkpoint.state import TrainingState, write_state
from lora_trainer.context import Context
from lora_trainer.errors import TrainerError, internal
from lora_trainer.logs import log, warn
from lora_trainer.publish.publication import file_entries
from lora_trainer.report import library_versions
from lora_trainer.storage.location import AlreadyExistsError, Location, RemoteFile

_FOLDER = re.compile(r"step-(\d{8})/(.+)")
_DAMAGE = (ExitCode.INPUT_NOT_FOUND, ExitCode.INTERNAL_ERROR)
"""What a download ends with when a file of the checkpoint is missing, or has another size or SHA-256."""


@dataclass(frozen=True)
class Identity:
    """What is trained on what. Only a checkpoint of the same training is resumed."""

    spec_digest: str
    """See `LoRAJobSpec.result_digest`."""
    dataset_digest: str
    base_revision: str


class FoundCheckpoint(NamedTuple):
    """A verified checkpoint on the local disk."""

    step: int
    folder: Path
    saved: SavedCheckpoint


class CheckpointStore:
    """The checkpoints of one run. `keep` is how many of them stay; each holds the best weights so far as well."""

    def __init__(self, context: Context, identity: Identity, keep: int) -> None:
        self._context, self._identity, self._keep = context, identity, keep
        self._damaged: set[int] = set()

    def newest(self) -> FoundCheckpoint | None:
        """Return the newest usable checkpoint, downloaded and verified, or None.

        Unusable ones are skipped with a warning. Raises `TrainerError` when S3 does not answer (69) or refuses (77).
        """
        for step, files in sorted(self._listing().items(), reverse=True):
            if not _has_manifest(files):
                continue  # its upload was cut off; the next `prune` removes it
            try:
                return self._download(step, files)
            except _UnusableError as error:
                self._damaged.add(step)
                warn("a checkpoint is skipped", uri=self._location(step).uri, reason=str(error))
        return None

    def save(self, state: TrainingState) -> SavedCheckpoint:
        """Store a state as the checkpoint of its step. One that is there already and complete is left as it is.

        Raises `TrainerError` as `storage` explains it, and `OSError` when the local disk is full.
        """
        target = self._location(state.step)
        files = self._listing().get(state.step, [])
        try:
            manifest = self._usable_manifest(state.step, files)
            log("the checkpoint is there already", uri=target.uri)
        except _UnusableError:
            self._context.storage.delete(target / MANIFEST_NAME)  # before its files change
            manifest = self._upload(target, state)
            self._damaged.discard(state.step)
        return SavedCheckpoint(step=state.step, uri=target.uri, time=manifest.created_time)

    def prune(self) -> None:
        """Remove all but the newest checkpoints, and whatever is not a checkpoint of this training.

        Not while a checkpoint is being saved. Raises `TrainerError` as `storage` explains it.
        """
        kept = 0
        for step, files in sorted(self._listing().items(), reverse=True):
            if kept < self._keep and self._is_usable(step, files):
                kept += 1
            else:
                self._remove(step)

    def _upload(self, target: Location, state: TrainingState) -> CheckpointManifest:
        storage, scratch = self._context.storage, self._context.workspace.run_folder("checkpoints")
        with tempfile.TemporaryDirectory(dir=scratch) as name:
            folder = Path(name)
            write_state(folder, state)
            manifest = self._manifest_of(folder, state.step)
            storage.upload_all(folder, manifest.files, target)
        if not _holds(storage.list_files(target), manifest):
            raise internal(f"{target.field}: {target.uri} lacks files that were just written", "check the S3 server")
        try:
            storage.create(target / MANIFEST_NAME, manifest.encode())
        except AlreadyExistsError:
            log("another process saved the checkpoint at the same time", uri=target.uri)
        size = sum(entry.size for entry in manifest.files)
        log("checkpoint saved", uri=target.uri, step=state.step, bytes=size)
        return manifest

    def _manifest_of(self, folder: Path, step: int) -> CheckpointManifest:
        return CheckpointManifest(
            files=file_entries(folder),
            step=step,
            spec_digest=self._identity.spec_digest,
            dataset_digest=self._identity.dataset_digest,
            base_revision=self._identity.base_revision,
            versions=library_versions(),
            created_time=datetime.now(UTC).replace(microsecond=0),
        )

    def _download(self, step: int, files: list[RemoteFile]) -> FoundCheckpoint:
        manifest, target = self._usable_manifest(step, files), self._location(step)
        folder = Path(tempfile.mkdtemp(dir=self._context.workspace.run_folder("resume")))
        try:
            self._context.storage.download_verified(target, manifest.files, folder)
        except TrainerError as error:
            shutil.rmtree(folder)
            if _is_damage(error):
                raise _UnusableError(error.message) from error
            raise
        log("checkpoint found", uri=target.uri, step=step)
        return FoundCheckpoint(step, folder, SavedCheckpoint(step=step, uri=target.uri, time=manifest.created_time))

    def _usable_manifest(self, step: int, files: list[RemoteFile]) -> CheckpointManifest:
        """Return the manifest of a checkpoint of this training whose files are listed whole; `_UnusableError` else."""
        if step in self._damaged:
            raise _UnusableError("it was found damaged before")
        path = self._location(step) / MANIFEST_NAME
        stored = self._context.storage.read_if_there(path) if _has_manifest(files) else None
        if stored is None:
            raise _UnusableError("it has no manifest")
        try:
            manifest = CheckpointManifest.model_validate_json(stored)
        except ValidationError as error:
            raise _UnusableError("its manifest does not parse") from error
        found = Identity(manifest.spec_digest, manifest.dataset_digest, manifest.base_revision)
        if found != self._identity or manifest.step != step:
            raise _UnusableError("it belongs to another training: spec, data or base model differ")
        if not _holds(files, manifest):
            raise _UnusableError("a file is missing or has another size")
        return manifest

    def _is_usable(self, step: int, files: list[RemoteFile]) -> bool:
        try:
            self._usable_manifest(step, files)
        except _UnusableError:
            return False
        return True

    def _remove(self, step: int) -> None:
        target = self._location(step)
        self._context.storage.delete(target / MANIFEST_NAME)  # first, so that nobody believes the rest
        self._context.storage.delete_all(target)
        log("checkpoint removed", uri=target.uri)

    def _listing(self) -> dict[int, list[RemoteFile]]:
        """Return the files of each step's folder, with paths within it."""
        listing: dict[int, list[RemoteFile]] = {}
        for file in self._context.storage.list_files(self._context.output(self._context.layout.checkpoints)):
            match = _FOLDER.fullmatch(file.path)
            if match:
                listing.setdefault(int(match[1]), []).append(file._replace(path=match[2]))
        return listing

    def _location(self, step: int) -> Location:
        return self._context.output(self._context.layout.checkpoint(step))


class _UnusableError(Exception):
    """A folder that holds no checkpoint of this training; the text is the reason."""


def _has_manifest(files: list[RemoteFile]) -> bool:
    return any(each.path == MANIFEST_NAME for each in files)


def _holds(files: list[RemoteFile], manifest: CheckpointManifest) -> bool:
    sizes = {each.path: each.size for each in files}
    return all(sizes.get(entry.path) == entry.size for entry in manifest.files)


def _is_damage(error: TrainerError) -> bool:
    # A checksum that the server itself stored and that its content no longer has: no retry will mend it.
    return error.exit_code in _DAMAGE or isinstance(error.__cause__, FlexibleChecksumError)
