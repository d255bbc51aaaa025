"""The engine beside the agent: its newest list, and the calls that change it, each remembered before it is made.

Whoever uses this makes one call at a time. No call here decides anything: see `decide.py`.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lora_agent.decide import FOREIGN, STAGING_PREFIX, UNPROVED, restarted
from lora_agent.drivers.base import Driver, EngineError, ErrorKind, Listing, fault_of
from lora_agent.faults import Fault
from lora_agent.memory import Loaded
from lora_agent.store import Store
from lora_agent.transfer.protocol import FaultError, fault_error
from lora_api.artifacts import GoldenSample
from lora_api.delivery import EngineStatus, ProbeResult
from lora_api.loraadapter import Verify
from lora_api.reasons import Reason

CALL_SECONDS = 600.0
"""Above the drivers' own limits; a call that hangs nevertheless must not stop the others for ever."""
GRACE_SECONDS = 10.0
"""A busy engine misses a look now and then. For so long its last list still counts for readers."""


class Prober(Protocol):
    """See `lora_agent.probe.probe`."""

    async def __call__(
        self, driver: Driver, name: str, path: Path, samples: Sequence[GoldenSample], verify: Verify
    ) -> tuple[ProbeResult, Fault | None]: ...


class Engine:
    """One engine, through its driver."""

    def __init__(
        self,
        driver: Driver,
        store: Store,
        prober: Prober,
        clock: Callable[[], float],
    ) -> None:
        self.driver = driver
        self.keep: Callable[[Mapping[str, Loaded]], None] = lambda _: None
        """Writes down what was loaded, before the engine is called."""
        self.loaded: dict[str, Loaded] = {}
        self.bases: tuple[str, ...] = ()
        self.restarts = 0
        self.reachable = False
        self._version = ""
        self._listing: Listing | None = None
        self._seen_at = 0.0
        self._called = False
        """Whether a call was made since the last look."""
        self._store, self._prober, self._clock = store, prober, clock

    def status(self, max_rank: int | None) -> EngineStatus:
        """Return what the operator is told."""
        return EngineStatus(
            kind=self.driver.kind,
            version=self._version[:64],
            reachable=self.reachable,
            base_model=(self.bases[0] if self.bases else "")[:1024],
            max_rank=max_rank,
            restarts=self.restarts,
        )

    def shown(self) -> dict[str, str] | None:
        """Return digests by served name, as the engine says now; None if it does not answer."""
        return self._digests() if self.reachable else None

    def shown_lately(self) -> dict[str, str]:
        """Return the same for readers, who shall not flinch when the engine misses one look."""
        fresh = self.reachable or self._clock() - self._seen_at < GRACE_SECONDS
        found = self._digests() if fresh else {}
        return {name: digest for name, digest in found.items() if digest not in (FOREIGN, UNPROVED)}

    async def look(self) -> bool:
        """Ask for the list, and return whether another process of the engine may have come."""
        before = self._digests() if self._listing is not None else None
        was_reachable, called, self._called = self.reachable, self._called, False
        try:
            async with asyncio.timeout(CALL_SECONDS):
                listing = await self.driver.list()
        except (EngineError, TimeoutError):
            self.reachable = False
            return False
        new_bases = bool(self.bases) and listing.bases != self.bases
        self._listing, self.reachable, self._seen_at = listing, True, self._clock()
        self.bases, self._version = listing.bases, listing.version
        forgot = not called and restarted(before, self._digests())
        self.restarts += forgot or new_bases
        self._forget_what_is_gone(listing)
        return forgot or new_bases or not was_reachable

    async def load(self, name: str, adapter: str, digest: str) -> float:
        """Let a name answer with a version; return the seconds it took. Raises `FaultError`."""
        before = self.loaded.get(name, Loaded(adapter=adapter))
        self._remember(
            name, before.model_copy(update={"adapter": adapter, "intended": digest, "unloaded": False}), must=True
        )
        started = self._clock()
        try:
            await self._call(self.driver.load(name, self._store.path_of(digest), self._path_shown(name)))
        except EngineError as error:
            # An engine that reads at its start only has the files in place now, and will serve them.
            in_place = error.kind is ErrorKind.NOT_ENABLED and self.driver.works_offline
            after = {"digest": digest if in_place else before.digest, "intended": ""}
            self._remember(name, self.loaded[name].model_copy(update=after))
            raise FaultError(fault_of(error)) from error
        seconds = self._clock() - started
        self._remember(name, Loaded(adapter=adapter, digest=digest))
        await self.look()
        self._prove(name, digest)
        return seconds

    async def unload(self, name: str) -> None:
        """Let the engine forget a name. Raises `FaultError`."""
        remembered = self.loaded.get(name)
        shown = (self._digests() if self._listing is not None else {}).get(name, FOREIGN)
        known = remembered.digest if remembered and remembered.digest else shown
        path = self._store.path_of(known) if known not in (FOREIGN, UNPROVED) else None
        try:
            await self._call(self.driver.unload(name, path))
        except EngineError as error:
            raise FaultError(fault_of(error)) from error
        self._remember(name, (remembered or Loaded(digest=known)).model_copy(update={"unloaded": True}))
        await self.look()
        if not self.reachable and self.driver.works_offline:
            self._remember(name, None)  # it is not there to show anything, and will find nothing
        elif name in self._digests() and not self.driver.works_offline:
            raise fault_error(Reason.ENGINE_REFUSED, f"the engine took the removal of {name}, and still lists it")

    async def probe(
        self, digest: str, samples: Sequence[GoldenSample], verify: Verify
    ) -> tuple[ProbeResult, Fault | None]:
        """Ask a version under a name that nobody else uses. Raises `FaultError`."""
        name = f"{STAGING_PREFIX}{digest.removeprefix('sha256:')[:12]}"
        try:
            await self.load(name, "", digest)
            return await self._prober(self.driver, name, self._store.path_of(digest), samples, verify)
        finally:
            with contextlib.suppress(FaultError):  # a name that stays is unwanted, and unloaded again by the loop
                await self.unload(name)

    def _prove(self, name: str, digest: str) -> None:
        if self.driver.works_offline or not self.reachable:
            return
        if self._digests().get(name) != digest:
            message = f"the engine took {name}, and its list does not show it"
            raise fault_error(Reason.ENGINE_REFUSED, message)

    async def _call(self, call: Coroutine[object, object, None]) -> None:
        self._called = True
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await call
        except TimeoutError:
            raise EngineError(ErrorKind.BUSY, f"no answer within {CALL_SECONDS:.0f} s") from None
        except EngineError as error:
            if error.kind is ErrorKind.UNREACHABLE:
                self.reachable = False
            raise

    def _path_shown(self, name: str) -> str | None:
        """Return what the name answers with now: by the list, or by memory where the list tells no paths."""
        path = self._listing.adapters.get(name) if self._listing is not None else None
        if path:
            return path
        remembered = self.loaded.get(name)
        known = remembered.digest if remembered and not remembered.unloaded else ""
        offline = self.driver.works_offline
        return str(self._store.path_of(known)) if known and (path is not None or offline) else path

    def _digests(self) -> dict[str, str]:
        adapters = self._listing.adapters if self._listing is not None else {}
        return {name: self._digest(name, path) for name, path in adapters.items()}

    def _digest(self, name: str, path: str) -> str:
        if path and self.driver.proves_path:
            return self._store.digest_at(path) or FOREIGN
        remembered = self.loaded.get(name)
        if remembered is None:
            return FOREIGN
        return remembered.digest or UNPROVED

    def _forget_what_is_gone(self, listing: Listing) -> None:
        """Drop from memory what the list does not show any more. Links stay in place whatever a list shows."""
        for name, remembered in list(self.loaded.items()):
            if name not in listing.adapters and (remembered.unloaded or not self.driver.works_offline):
                self._remember(name, None)

    def _remember(self, name: str, loaded: Loaded | None, *, must: bool = False) -> None:
        """Keep or drop what is known of a name. What `must` be written is; raises OSError if that fails."""
        changed = dict(self.loaded)
        changed.pop(name, None)
        self.loaded = changed if loaded is None else changed | {name: loaded}
        try:
            self.keep(self.loaded)
        except OSError:  # a full disk; it is written when there is room again
            if must:
                raise
