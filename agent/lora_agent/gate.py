"""Whom the pod's start and readiness wait for. Pure.

Adapters that the pod's author calls required are waited for whatever is wrong with them. Those that were desired when
the pod started are waited for until they are served, or have failed for good, or in a way that only a person can mend,
once. Nobody else is: an adapter that is
added to a running pod, or a new version that fails, never takes the pod out of its Service.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

PATIENCE_SECONDS = 30.0
"""How long the engine's start waits for a first word of what is desired."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one desired adapter is."""

    on_disk: bool
    served: bool
    """With any version."""
    hopeless: bool
    """Failed for good, or until a person does something."""


def is_started(
    strict: Iterable[str], waited: Iterable[str] | None, standings: Mapping[str, Standing], *, patience_over: bool
) -> bool:
    """Return whether the engine may start. `waited` is None while nothing was said of what is desired."""
    strict = set(strict)
    if waited is None:
        return patience_over and not strict
    there = {name for name, each in standings.items() if each.on_disk or each.served}
    return strict | set(waited) <= there


def is_ready(strict: Iterable[str], waited: Iterable[str] | None, standings: Mapping[str, Standing]) -> bool:
    """Return whether every adapter that readiness depends on is served."""
    served = {name for name, each in standings.items() if each.served}
    return set(strict) | set(waited or ()) <= served


def still_waited(waited: Iterable[str], standings: Mapping[str, Standing]) -> list[str]:
    """Return whom to wait for from now on: not for what failed for good, nor for what nobody wants any more."""
    return sorted(
        name for name in waited if name in standings and not (standings[name].hopeless and not standings[name].served)
    )
