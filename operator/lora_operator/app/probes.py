"""Liveness: the process is healthy while its queue moves and its resync comes through."""

from typing import Any

import kopf

from lora_operator.reconcile.keys import Key
from lora_operator.reconcile.queue import WorkQueue
from lora_operator.reconcile.resync import Resync

_OLDEST = 300.0
"""Seconds that an object may wait for, or be in, one pass: ten requests that all run into their timeout."""
_RESYNCS = 4
"""Resyncs that may fail in a row: a restart does not help against an API server that is away for a while."""


def health(queue: WorkQueue[Key], resync: Resync) -> dict[str, float]:
    """Return the two ages in seconds. Raises RuntimeError when one is too high."""
    oldest, age = queue.oldest_age(), resync.age
    if oldest > _OLDEST:
        raise RuntimeError(f"an object has been waiting for {oldest:.0f} s")
    if age > _RESYNCS * resync.interval:
        raise RuntimeError(f"the last resync was {age:.0f} s ago")
    return {"oldestItemSeconds": round(oldest, 1), "lastResyncSeconds": round(age, 1)}


def register_probes(registry: kopf.OperatorRegistry, queue: WorkQueue[Key], resync: Resync) -> None:
    """Answer the liveness endpoint."""

    # PERMANENT, because Kopf would retry a failing probe within the request, which then hangs for a minute.
    @kopf.on.probe(id="operator", errors=kopf.ErrorsMode.PERMANENT, registry=registry)
    async def operator(**_: Any) -> dict[str, float]:
        return health(queue, resync)
