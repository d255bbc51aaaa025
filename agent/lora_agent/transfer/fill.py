"""Fills a local folder with the files of an adapter, checked while they come, written through to the disk.

Nothing is trusted before the end: whoever asked publishes the folder only when it got the record.
"""

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from lora_agent.transfer.folder import BrokenOffError, Folder
from lora_agent.transfer.protocol import DownloadRequest, FaultError, Line, StoreRecord, fault_error, plain_uri
from lora_agent.transfer.selection import (
    CONFIG_NAME,
    PICKLED_NAME,
    WEIGHTS_NAME,
    check_digest,
    check_entry,
    plain_files,
    read_manifest,
)
from lora_agent.transfer.tries import Tries
from lora_api.artifacts import MANIFEST_NAME, FileEntry, Manifest, digest_of
from lora_api.names import STORE_SIZE_ANNOTATION
from lora_api.reasons import Reason

_MANIFEST_BYTES = 8 * 2**20
_CONFIG_BYTES = 2**20
_REPORT_SECONDS = 0.5
_SPARE_BYTES = 2**20
"""Left free for what is kept beside the files."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Filling:
    """One download into one folder. `report` is given progress, `sleep` (seconds) waits between attempts."""

    def __init__(
        self,
        request: DownloadRequest,
        source: Folder,
        report: Callable[[Line], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._request, self._source, self._report, self._sleep = request, source, report, sleep
        self._where = plain_uri(request.uri)
        self._target = Path(request.folder)
        self._done, self._total, self._reported = 0, 0, 0.0

    def run(self) -> StoreRecord:
        """Download everything. Raises `FaultError`."""
        try:
            if (size := self._manifest_size()) is None:
                return self._plain()
            return self._listed(size)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise self._disk_full() from error

    def _manifest_size(self) -> int | None:
        """Return the size of the manifest. Who may not list a bucket is refused also what is not there."""
        try:
            return self._size_of(MANIFEST_NAME)
        except FaultError as refused:
            if refused.fault.reason is not Reason.NO_PERMISSION or self._size_of(CONFIG_NAME) is None:
                raise
            return None

    def _listed(self, size: int) -> StoreRecord:
        entry = self._receive(MANIFEST_NAME, _limit(MANIFEST_NAME, size, _MANIFEST_BYTES, self._where))
        content = (self._target / MANIFEST_NAME).read_bytes()
        manifest = read_manifest(content, self._request.digest, self._where)
        self._expect(self._done + sum(file.size for file in manifest.files))
        for wanted in manifest.files:
            check_entry(self._receive(wanted.path, wanted.size), wanted, self._where)
        return _record(manifest.files, entry, manifest)

    def _plain(self) -> StoreRecord:
        sizes = {name: self._size_or_none(name) for name in (CONFIG_NAME, WEIGHTS_NAME, PICKLED_NAME)}
        names = plain_files(sizes, self._where)
        _limit(CONFIG_NAME, sizes[CONFIG_NAME] or 0, _CONFIG_BYTES, self._where)
        self._expect(sum(sizes[name] or 0 for name in names))
        files = [self._received_whole(name, sizes[name] or 0) for name in names]
        check_digest(digest_of(files), self._request.digest, self._where)
        return _record(files, None, None)

    def _size_or_none(self, name: str) -> int | None:
        if name != PICKLED_NAME:
            return self._size_of(name)
        try:
            return self._size_of(name)
        except FaultError:  # asked for only to say more of what is wrong
            return None

    def _size_of(self, name: str) -> int | None:
        return Tries(self._where, self._sleep).call(lambda: self._source.size_of(name))

    def _expect(self, total: int) -> None:
        """Refuse what the disk has no room for, before it comes."""
        self._total = total
        free = shutil.disk_usage(self._target).free
        room = free if self._request.room is None else min(free, self._request.room)
        if total - self._done + _SPARE_BYTES > room:
            raise self._disk_full(room)
        self._report(Line(done=self._done, total=total))

    def _received_whole(self, name: str, size: int) -> FileEntry:
        """Return a file that nobody promised anything of; at least it did not change meanwhile."""
        entry = self._receive(name, size)
        if entry.size != size:
            message = f"{self._where}: {name}: {entry.size} bytes came, {size} were there before; it is tried again"
            raise fault_error(Reason.SERVICE_UNAVAILABLE, message)
        return entry

    def _receive(self, name: str, size: int) -> FileEntry:
        """Write one file, and return what came: never more than one piece above `size` bytes."""
        tries = Tries(f"{self._where}: {name}", self._sleep)
        target = self._target / name
        self._make_folders(target.parent)
        content, got = hashlib.sha256(), 0
        with target.open("xb") as file:
            while True:
                try:
                    for piece in self._source.pieces(name, got):
                        file.write(piece)
                        content.update(piece)
                        got += len(piece)
                        tries.progressed()
                        self._progressed(len(piece))
                        if got > size:
                            break
                    break
                except BrokenOffError as error:
                    tries.failed(error)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # the engine may run as another user
            os.fsync(file.fileno())
        return FileEntry(path=name, size=got, sha256=content.hexdigest())

    def _make_folders(self, folder: Path) -> None:
        if folder != self._target and not folder.exists():
            self._make_folders(folder.parent)
            folder.mkdir()
            folder.chmod(0o755)

    def _progressed(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            self._report(Line(done=self._done, total=self._total))

    def _disk_full(self, room: int | None = None) -> FaultError:
        left = "" if room is None else f", {max(room, 0) / 2**20:.0f} MiB are free"
        message = f"{self._where}: {self._total / 2**20:.0f} MiB are to come{left}; raise the pod's annotation"
        return fault_error(Reason.DISK_FULL, f"{message} {STORE_SIZE_ANNOTATION}")


def _record(files: list[FileEntry], manifest_entry: FileEntry | None, manifest: Manifest | None) -> StoreRecord:
    has_samples = bool(manifest and manifest.samples)
    return StoreRecord(digest=digest_of(files), files=files, manifest=manifest_entry, has_samples=has_samples)


def _limit(name: str, size: int, most: int, where: str) -> int:
    if size > most:
        message = f"{where}: {name} has {size} bytes, at most {most} are allowed"
        raise fault_error(Reason.NOT_AN_ADAPTER, message, permanent=True)
    return size
