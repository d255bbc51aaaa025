"""One adapter's life in this pod: what is remembered of it, and how events change that. Pure: no I/O, no clock.

What is to be done next is decided in `decide.py` from these values; nothing here knows how it is done.
"""

from dataclasses import dataclass, replace

from lora_agent.faults import Fault
from lora_api.delivery import DesiredAdapter, ProbeResult
from lora_api.messages import Servability
from lora_api.reasons import Reason

MAX_MISMATCHES = 3
"""Downloads of other content than promised, before it is believed that nothing else will come."""
_FIRST_DELAY_SECONDS = 1.0
_SLOW_DELAY_SECONDS = 30.0
_LONGEST_DELAY_SECONDS = 60.0
_SLOW = {Reason.NO_PERMISSION, Reason.INPUT_NOT_FOUND, Reason.SECRET_NOT_FOUND, Reason.INVALID_SPEC, Reason.DISK_FULL}
"""A person has to change something; asking every second helps nobody."""
_OF_THE_ENGINE = {Reason.ENGINE_REFUSED, Reason.ENGINE_FLAGS_MISSING, Reason.NAME_CONFLICT}
"""What another process of the engine may see differently."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What is remembered of one LoRAAdapter. Times are seconds of the caller's clock."""

    wanted: DesiredAdapter
    found: str = ""
    """Digest that came, where none was asked for."""
    fault: Fault | None = None
    failures: int = 0
    """In a row."""
    mismatches: int = 0
    retry_at: float = 0.0
    checked: tuple[str, tuple[str, ...]] | None = None
    """Digest, and base models of the engine, that the last check was of."""
    probed: str = ""
    """Digest that passed the probe."""
    served: str = ""
    """Digest that the engine's list showed last."""
    previous: str = ""
    """Digest that was served before it; its files are kept for a way back."""
    done_bytes: int = 0
    total_bytes: int = 0
    load_seconds: float | None = None
    probe: ProbeResult | None = None
    compatibility: tuple[Servability, ...] = ()

    @property
    def target(self) -> str:
        """Digest that is to be served; empty while it is not known."""
        return self.wanted.digest or self.found


def revised(slot: Slot, wanted: DesiredAdapter) -> Slot:
    """Return the slot for another desired entry: what failed is tried again, what was served is remembered."""
    if wanted == slot.wanted:
        return slot
    same_source = origin(wanted) == origin(slot.wanted)
    fresh = Slot(
        wanted,
        found=slot.found if same_source else "",
        served=slot.served if wanted.served_name == slot.wanted.served_name else "",
        previous=slot.previous,
    )
    if fresh.target != slot.target:
        return fresh
    probed = slot.probed if wanted.verify == slot.wanted.verify else ""
    return replace(
        fresh,
        probed=probed,
        probe=slot.probe,
        load_seconds=slot.load_seconds,
        compatibility=slot.compatibility,
        done_bytes=slot.done_bytes,
        total_bytes=slot.total_bytes,
    )


def origin(wanted: DesiredAdapter) -> tuple[object, ...]:
    """Return what a download depends on, besides the digest."""
    return wanted.uri, wanted.revision, wanted.storage, wanted.token_secret_ref


def failed(slot: Slot, fault: Fault, now: float, jitter: float) -> Slot:
    """Return the slot after a failure; `jitter` is 0 to 1 and spreads the pods by a quarter of the delay."""
    failures = slot.failures + 1
    mismatches = slot.mismatches + (fault.reason is Reason.DIGEST_MISMATCH)
    if mismatches >= MAX_MISMATCHES and fault.reason is Reason.DIGEST_MISMATCH:
        fault = replace(fault, permanent=True)
    wait = delay(failures, fault.reason, jitter)
    return replace(slot, fault=fault, failures=failures, mismatches=mismatches, retry_at=now + wait)


def delay(failures: int, reason: Reason, jitter: float) -> float:
    """Return the seconds to wait after so many failures in a row: doubled each time, up to a minute."""
    first = _SLOW_DELAY_SECONDS if reason in _SLOW else _FIRST_DELAY_SECONDS
    return min(_LONGEST_DELAY_SECONDS, first * 2.0 ** min(failures - 1, 16)) * (1 - jitter / 4)


def recovered(slot: Slot) -> Slot:
    """Return the slot after a success: the next failure is the first one again."""
    return replace(slot, fault=None, failures=0, retry_at=0.0)


def downloaded(slot: Slot, digest: str, size: int) -> Slot:
    """Return the slot when its files are in the store."""
    return replace(recovered(slot), found=digest, mismatches=0, done_bytes=size, total_bytes=size)


def checked(slot: Slot, key: tuple[str, tuple[str, ...]], verdicts: tuple[Servability, ...]) -> Slot:
    """Return the slot when the files were found fit for the engine."""
    return replace(recovered(slot), checked=key, compatibility=verdicts)


def refused(
    slot: Slot, key: tuple[str, tuple[str, ...]], verdicts: tuple[Servability, ...], fault: Fault, now: float
) -> Slot:
    """Return the slot when the files were found unfit."""
    return replace(failed(slot, fault, now, 0.0), checked=key, compatibility=verdicts)


def probed(slot: Slot, digest: str, result: ProbeResult) -> Slot:
    """Return the slot when the version answered as it should."""
    return replace(recovered(slot), probed=digest, probe=result)


def loaded(slot: Slot, seconds: float) -> Slot:
    """Return the slot when the engine said that it loaded. Only its list proves it, see `observed`."""
    return replace(slot, load_seconds=seconds)


def observed(slot: Slot, shown: str, *, on_disk: bool) -> Slot:
    """Return the slot when the engine's list shows a digest, or none (empty), under its name."""
    if shown and shown != slot.served:
        slot = replace(slot, served=shown, previous=slot.served or slot.previous)
    if shown and shown == slot.target and on_disk and slot.fault is not None:
        return recovered(slot)
    return slot


def engine_returned(slot: Slot) -> Slot:
    """Return the slot when another process of the engine may be there: what the last one refused for good is tried.

    Failures are still counted, so that an adapter which ends the engine's process does so more and more seldom.
    """
    if slot.fault is None or not slot.fault.permanent or slot.fault.reason not in _OF_THE_ENGINE:
        return slot
    return replace(slot, fault=None)
