"""Carries out one action for one adapter, and says what came of it as a change of its slot.

No decision is made here, and nothing is caught but faults: whatever else goes wrong is a fault of the agent itself, and
is reported as one, so that one adapter's trouble never ends the others' work.
"""

import asyncio
import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from lora_agent import logs, slot
from lora_agent.compatibility import PodFacts
from lora_agent.engine import Engine
from lora_agent.faults import Fault
from lora_agent.fetch import Fetcher
from lora_agent.metrics import Metrics
from lora_agent.settings import Settings
from lora_agent.slot import Slot
from lora_agent.store import Store
from lora_agent.transfer.protocol import DownloadRequest, FaultError, StoreRecord, fault_error, source_of
from lora_api.artifacts import Manifest
from lora_api.delivery import DesiredAdapter
from lora_api.loraadapter import Check
from lora_api.messages import Servability
from lora_api.names import STORE_SIZE_ANNOTATION
from lora_api.reasons import Reason

Change = Callable[[Slot], Slot]


class Compatibility(Protocol):
    """See `lora_agent.compatibility`."""

    def verdicts_of(self, folder: Path, manifest: Manifest | None) -> Sequence[Servability]: ...

    def refusal(
        self, folder: Path, desired: DesiredAdapter, manifest: Manifest | None, pod: PodFacts
    ) -> Fault | None: ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What the work is done with. `clock` is in seconds, `jitter` gives 0 to 1."""

    settings: Settings
    store: Store
    engine: Engine
    fetcher: Fetcher
    compatibility: Compatibility
    metrics: Metrics
    clock: Callable[[], float]
    jitter: Callable[[], float]


class Worker:
    """Does the work. `records` is what the store holds, by digest; downloads add to it."""

    def __init__(self, tools: Tools, records: dict[str, StoreRecord]) -> None:
        self._tools, self.records = tools, records
        self._coming: dict[str, int] = {}
        """Bytes of the downloads under way, by folder."""

    async def download(self, wanted: DesiredAdapter, update: Callable[[Change], None]) -> Change:
        """Get the files of an adapter into the store."""
        store, metrics = self._tools.store, self._tools.metrics
        folder = await asyncio.to_thread(store.new_folder)
        progress = _Progress(metrics, update, lambda total: self._expect(str(folder), total))
        try:
            request = DownloadRequest.of(wanted, str(folder), str(self._tools.settings.secrets), self._room())
            record = await self._tools.fetcher.fetch(request, progress.see)
            known = self.records.get(record.digest, record)
            record = record.model_copy(update={"sources": sorted({*known.sources, source_of(wanted)})})
            await self._publish(folder, record)
        except BaseException as error:
            self._coming.pop(str(folder), None)
            await asyncio.shield(asyncio.to_thread(store.discard, folder))
            if not isinstance(error, asyncio.CancelledError):
                metrics.downloads["failure"] += 1
            raise
        self._coming.pop(str(folder), None)
        metrics.downloaded_bytes += record.bytes - progress.done
        metrics.downloads["success"] += 1
        return lambda now: slot.downloaded(now, record.digest, record.bytes)

    async def check(self, wanted: DesiredAdapter, digest: str) -> Change:
        """Look whether the engine can serve the files."""
        key = (digest, self._tools.engine.bases)
        settings, record = self._tools.settings, self.records[digest]
        pod = PodFacts(
            engine=settings.engine,
            max_rank=settings.max_rank,
            base_model=settings.base_model,
            base_revision=settings.base_revision,
            engine_bases=key[1],
        )
        verdicts, fault = await asyncio.to_thread(self._examine, record, wanted, pod)
        if fault is None:
            return lambda now: slot.checked(now, key, verdicts)
        return lambda now: slot.refused(now, key, verdicts, fault, self._tools.clock())

    async def probe(self, wanted: DesiredAdapter, digest: str) -> Change:
        """Ask a version before it answers to anybody."""
        manifest = await asyncio.to_thread(self._tools.store.manifest_of, self.records[digest])
        samples = manifest.samples if manifest and wanted.verify.samples is not Check.OFF else []
        result, fault = await self._tools.engine.probe(digest, samples, wanted.verify)
        if fault is None:
            return lambda now: slot.probed(now, digest, result)
        if fault.permanent:
            self._tools.metrics.probe_failures += 1
        return lambda now: replace(self.failed(fault)(now), probe=result)

    async def load(self, wanted: DesiredAdapter, digest: str) -> Change:
        """Let the served name answer with a version."""
        metrics = self._tools.metrics
        try:
            seconds = await self._tools.engine.load(wanted.served_name, wanted.name, digest)
        except FaultError:
            metrics.loads["failure"] += 1
            raise
        metrics.loads["success"] += 1
        metrics.load_seconds += seconds
        return lambda now: slot.loaded(now, seconds)

    def failed(self, fault: Fault) -> Change:
        """Return the change for a failure."""
        return lambda now: slot.failed(now, fault, self._tools.clock(), self._tools.jitter())

    async def _publish(self, folder: Path, record: StoreRecord) -> None:
        """Publish to the end, also when the download is cancelled meanwhile."""
        publishing = asyncio.create_task(asyncio.to_thread(self._tools.store.publish, folder, record))
        try:
            await asyncio.shield(publishing)
        finally:
            await publishing
            self.records[record.digest] = record

    def _examine(
        self, record: StoreRecord, wanted: DesiredAdapter, pod: PodFacts
    ) -> tuple[tuple[Servability, ...], Fault | None]:
        folder, manifest = self._tools.store.path_of(record.digest), self._tools.store.manifest_of(record)
        compatibility = self._tools.compatibility
        verdicts = tuple(compatibility.verdicts_of(folder, manifest))
        return verdicts, compatibility.refusal(folder, wanted, manifest, pod)

    def _room(self) -> int | None:
        """Return the bytes that the volume may still take; above its limit the kubelet evicts the whole pod."""
        limit = self._tools.settings.store_bytes
        return None if limit is None else max(0, limit - self._used())

    def _used(self) -> int:
        return sum(each.bytes for each in self.records.values()) + sum(self._coming.values())

    def _expect(self, folder: str, total: int) -> None:
        """Count what is to come; the later one of two downloads that have no room together is refused."""
        limit = self._tools.settings.store_bytes
        self._coming[folder] = total
        if limit is not None and self._used() > limit:
            message = f"{total / 2**20:.0f} MiB are to come, and the volume has no room for them beside the others"
            raise fault_error(Reason.DISK_FULL, f"{message}; raise the pod's annotation {STORE_SIZE_ANNOTATION}")


class _Progress:
    """Counts the bytes of one download."""

    def __init__(self, metrics: Metrics, update: Callable[[Change], None], expect: Callable[[int], None]) -> None:
        self._metrics, self._update, self._expect = metrics, update, expect
        self.done = 0

    def see(self, done: int, total: int) -> None:
        self._expect(max(done, total))
        self._metrics.downloaded_bytes += max(0, done - self.done)
        self.done = max(done, self.done)
        self._update(lambda now: replace(now, done_bytes=done, total_bytes=total))


def fault_from(error: Exception) -> Fault:
    """Return the fault that an exception of one adapter's work stands for."""
    if isinstance(error, FaultError):
        return error.fault
    if isinstance(error, OSError):
        message = f"the agent cannot use its disk ({type(error).__name__} {error.errno or ''})".strip()
        return Fault(
            Reason.DISK_FULL if error.errno == errno.ENOSPC else Reason.INTERNAL_ERROR, message, permanent=False
        )
    logs.error("an unexpected error of the agent", error)
    message = f"an unexpected error of the agent ({type(error).__name__}), see its log"
    return Fault(Reason.INTERNAL_ERROR, message, permanent=False)
