"""What to do next: for one adapter, for names that are not wanted any more, for folders that nobody needs. Pure.

Three rules stand above all others: what is served stays served until something better is proved; nothing is unloaded
because something is not known; the engine's own list, and not a memory, says what is served.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lora_agent.faults import Fault
from lora_agent.memory import Loaded
from lora_agent.slot import Slot
from lora_agent.transfer.protocol import StoreRecord, source_of
from lora_api.delivery import AdapterState, Desired, DesiredAdapter
from lora_api.loraadapter import Check as CheckPolicy
from lora_api.reasons import Reason

STAGING_PREFIX = "lora-probe-"
FOREIGN = ""
"""Stands for the digest of a name that the engine serves, and that the agent did not load."""
UNPROVED = "unproved"
"""Stands for the digest of a name of the agent's, where an agent died while it loaded and the engine tells no path."""


@dataclass(frozen=True, slots=True)
class World:
    """What is known besides the slot."""

    store: Mapping[str, StoreRecord]
    """What is complete on disk, by digest."""
    shown: Mapping[str, str] | None
    """Digest by served name, as the engine's newest list says; None while the engine does not answer."""
    loaded: Mapping[str, Loaded]
    """What the agent remembers to have given to the engine."""
    bases: tuple[str, ...] = ()
    """What the engine calls its base models; of its last list, also while it does not answer."""
    can_stage: bool = True
    works_offline: bool = False
    conflicts: Mapping[str, Fault] | None = None
    """Faults by LoRAAdapter, see `conflicts_of`."""


@dataclass(frozen=True, slots=True)
class Download:
    """Get the files."""

    digest: str | None


@dataclass(frozen=True, slots=True)
class Check:
    """Look whether the engine can serve the files, without asking it."""

    digest: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Load the version under a name of its own and ask it."""

    digest: str


@dataclass(frozen=True, slots=True)
class Load:
    """Let the served name answer with the version."""

    digest: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing now."""

    state: AdapterState
    fault: Fault | None = None


Action = Download | Check | Probe | Load | Wait


def next_action(slot: Slot, world: World, now: float) -> Action:
    """Return the next step of one adapter."""
    if conflict := (world.conflicts or {}).get(slot.wanted.name):
        return Wait(AdapterState.FAILED, conflict)
    target = slot.target
    if target not in world.store:
        return held(slot, now) or Download(target or None)
    if slot.checked != (target, world.bases):
        return Check(target)
    if world.shown is not None and world.shown.get(slot.wanted.served_name) == target:
        return Wait(AdapterState.SERVED)
    return _to_engine(slot, target, world, now)


def _to_engine(slot: Slot, target: str, world: World, now: float) -> Action:
    if slot.fault is not None and slot.fault.permanent:
        return Wait(AdapterState.FAILED, slot.fault)
    if world.shown is None and not world.works_offline:
        return Wait(AdapterState.ON_DISK, _UNREACHABLE)
    if waiting := held(slot, now):
        return waiting
    if world.works_offline and _in_place(slot, target, world):
        # The engine finds it by itself, at its start or at its next look.
        return Wait(AdapterState.LOADING if world.shown is not None else AdapterState.ON_DISK, _NOT_SHOWN)
    if _asks_for_probe(slot, target, world) and slot.probed != target:
        return Probe(target)
    return Load(target)


def lost(slot: Slot, world: World) -> str:
    """Return the digest to give back to an engine that forgot it, while the new version is not to be had; else empty.

    Files may be waited for for hours; an engine that restarts meanwhile must not answer 404 for so long.
    """
    forgotten = world.shown is not None and slot.wanted.served_name not in world.shown and not world.works_offline
    coming = slot.target in world.store and slot.fault is None
    return slot.served if forgotten and not coming and slot.served != slot.target and slot.served in world.store else ""


def held(slot: Slot, now: float) -> Wait | None:
    """Return the waiting that a failure asks for."""
    if slot.fault is not None and (slot.fault.permanent or now < slot.retry_at):
        return Wait(AdapterState.FAILED, slot.fault)
    return None


def known_digest(wanted: DesiredAdapter, store: Mapping[str, StoreRecord]) -> str:
    """Return the digest that came from the source of an entry before; an empty text if nothing did."""
    source = source_of(wanted)
    return next((digest for digest, record in store.items() if source in record.sources), "")


def conflicts_of(desired: Desired, shown: Mapping[str, str] | None, bases: Iterable[str]) -> dict[str, Fault]:
    """Return the adapters that cannot have their name, by LoRAAdapter. Of two adapters the first by name has it."""
    owners: dict[str, str] = {}
    faults = {}
    for each in sorted(desired.adapters, key=lambda entry: entry.name):
        name = each.served_name
        owner = owners.setdefault(name, each.name)
        if owner != each.name:
            faults[each.name] = _conflict(f"servedName: {name} belongs to the LoRAAdapter {owner}; take another one")
        elif name in bases:
            faults[each.name] = _conflict(f"servedName: {name} is the engine's base model; take another one")
        elif (shown or {}).get(name) == FOREIGN:
            what = "is served by the engine already, and not by this agent"
            faults[each.name] = _conflict(f"servedName: {name} {what}; take another one")
    return faults


def departures(
    wanted: frozenset[str] | None, shown: Mapping[str, str] | None, loaded: Mapping[str, Loaded], *, offline: bool
) -> list[str]:
    """Return the names to unload: those that the agent loaded, and nobody wants. Nothing while that is not known."""
    if wanted is None:
        return []
    ours = {name for name, digest in (shown or {}).items() if digest != FOREIGN}
    if offline or shown is None:
        ours |= set(loaded)
    return sorted(ours - wanted)


def garbage(
    store: Iterable[str],
    slots: Iterable[Slot],
    shown: Mapping[str, str] | None,
    loaded: Mapping[str, Loaded],
    *,
    keep_previous: bool,
) -> list[str]:
    """Return the digests whose files nobody needs; none while the engine cannot be asked what it serves."""
    if shown is None:
        return []
    needed = set(shown.values())
    for each in loaded.values():
        needed |= {each.digest, each.intended}
    for slot in slots:
        needed |= {slot.target, slot.served, slot.previous if keep_previous else ""}
    return sorted(set(store) - needed)


def restarted(before: Mapping[str, str] | None, after: Mapping[str, str]) -> bool:
    """Return whether the engine forgot all that it showed of the agent's, with no call of the agent in between."""
    ours = {name for name, digest in (before or {}).items() if digest != FOREIGN}
    return bool(ours) and not any(after.get(name, FOREIGN) != FOREIGN for name in ours)


def _in_place(slot: Slot, target: str, world: World) -> bool:
    remembered = world.loaded.get(slot.wanted.served_name)
    return remembered is not None and remembered.digest == target and not remembered.unloaded


def _asks_for_probe(slot: Slot, target: str, world: World) -> bool:
    verify = slot.wanted.verify
    by_samples = verify.samples is not CheckPolicy.OFF and world.store[target].has_samples
    return world.can_stage and (verify.effect is not CheckPolicy.OFF or by_samples)


def _conflict(message: str) -> Fault:
    return Fault(Reason.NAME_CONFLICT, message, permanent=True)


_UNREACHABLE = Fault(Reason.ENGINE_UNREACHABLE, "the engine does not answer yet", permanent=False)
_NOT_SHOWN = Fault(Reason.LOADING, "it is in place, and the engine's list does not show it yet", permanent=False)
