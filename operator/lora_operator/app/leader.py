"""Leadership: taking the Lease, keeping it, knowing at any moment whether it is held, and letting go of it.

`is_held` is asked before each write and looks at a clock only. A process that slept (stopped, swapped out, its machine
paused) therefore wakes up as no leader, before any request could tell it so.
"""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from lora_operator.cluster.lease import (
    LEASES,
    LeaseClient,
    LeaseTimes,
    Move,
    Sighting,
    decide,
    next_spec,
    read_record,
    released_spec,
    see,
)
from lora_operator.domain.observed import Document

_LOG = logging.getLogger(__name__)
_JITTER = 0.2
"""Replicas that wait must not ask in step."""
_SHORTEST = 0.1


class LeadershipLostError(Exception):
    """The Lease could not be renewed in time, or another replica holds it."""


def clock() -> float:
    """Return seconds that go on while the machine sleeps, which `time.monotonic` does not count on Linux."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Alone:
    """The leadership of a replica that is the only one by configuration."""

    def is_held(self) -> bool:
        """Return True."""
        return True

    async def acquire(self) -> None:
        """Lead at once."""

    async def keep(self) -> None:
        """Lead for ever."""
        await asyncio.Event().wait()

    async def release(self) -> None:
        """Leave nothing behind."""


class Leadership:
    """One replica's hold on one Lease."""

    def __init__(
        self,
        client: LeaseClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        on_contact: Callable[[], None] = lambda: None,
        times: LeaseTimes = LeaseTimes(),  # noqa: B008 - immutable
        clock: Callable[[], float] = clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Hold nothing yet. The identity gets a random part: a new process is never its predecessor.

        `on_contact` is called whenever the API server has answered.
        """
        self._client = client
        self._namespace = namespace
        self._name = name
        self.identity = f"{identity}_{secrets.token_hex(4)}"
        self._on_contact = on_contact
        self._times = times
        self._clock = clock
        self._sleep = sleep
        self._sighting: Sighting | None = None
        self._held_until = float("-inf")
        self._looked = clock()
        self._complaint = ""

    def is_held(self) -> bool:
        """Return whether this replica leads, by the local clock alone."""
        return self._clock() < self._held_until

    @property
    def age(self) -> float:
        """Seconds since the last attempt at the Lease, failed ones included: it grows if the loop does not run."""
        return self._clock() - self._looked

    async def acquire(self) -> None:
        """Wait until this replica leads. An API server that is away is waited for."""
        while not await self._try():
            await self._sleep(self._pause())
        _LOG.info("%s leads: it holds the Lease %s/%s", self.identity, self._namespace, self._name)

    def _pause(self) -> float:
        """Return the seconds until the next look: a while, or until the Lease of the holder ends if that is sooner."""
        pause = self._times.retry * (1 + _JITTER * random.random())  # noqa: S311 - no secret
        seen = self._sighting
        if seen is None or seen.record is None:
            return pause
        return min(pause, max(_SHORTEST, seen.since + seen.record.duration - self._clock()))

    async def keep(self) -> None:
        """Renew the Lease for ever. Raises LeadershipLostError at the latest when the renew deadline has passed."""
        while True:
            await self._sleep(min(self._times.retry, max(0.0, self._held_until - self._clock())))
            if not self.is_held():  # also after a long sleep: what others did meanwhile is not known
                raise LeadershipLostError(f"the Lease was not renewed for {self._times.renew_deadline:.0f} s")
            await self._try()
            if self._another_holds():
                raise LeadershipLostError(f"the Lease is held by {self._holder()}")

    async def release(self) -> None:
        """Let go, so that another replica need not wait for the end of the Lease. Failing is no harm but that wait."""
        held, self._held_until = self.is_held(), float("-inf")
        if not held:
            return
        try:
            async with asyncio.timeout(self._times.request):
                found = await self._client.read(self._namespace, self._name)
                if found is not None and read_record(found).holder == self.identity:
                    await self._client.write(found | {"spec": released_spec(found["spec"], _now())})
                    _LOG.info("%s let go of the Lease", self.identity)
        except Exception as error:
            _LOG.warning("The Lease could not be released: %s", error or type(error).__name__)

    async def _try(self) -> bool:
        """Take or renew the Lease if that is possible now."""
        self._looked = self._clock()
        try:
            async with asyncio.timeout(self._times.request):
                held = await self._attempt()
        except Exception as error:
            self._complain(f"{type(error).__name__}: {error}")
            return False
        self._complaint = ""
        self._on_contact()
        return held

    async def _attempt(self) -> bool:
        found = await self._client.read(self._namespace, self._name)
        self._sighting = see(self._sighting, read_record(found) if found else None, self._clock())
        move = decide(self._sighting, self.identity, self._clock())
        if move is Move.WAIT:
            return False
        sent = self._clock()  # others count from when they see the renewal, which is later
        if not await self._client.write(self._document(found, move)):
            return False
        self._held_until = sent + self._times.renew_deadline
        return True

    def _document(self, found: Document | None, move: Move) -> Document:
        lease = found or {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"namespace": self._namespace, "name": self._name},
        }
        return lease | {"spec": next_spec(move, lease.get("spec") or {}, self.identity, self._times, _now())}

    def _holder(self) -> str:
        record = self._sighting.record if self._sighting else None
        return record.holder if record else ""

    def _another_holds(self) -> bool:
        return self._holder() not in ("", self.identity)

    def _complain(self, text: str) -> None:
        """Log a trouble once, however often it is met in a row."""
        if text != self._complaint:
            _LOG.warning("Lease %s/%s: %s; it is tried again", self._namespace, self._name, text)
        self._complaint = text


def _now() -> datetime:
    return datetime.now(UTC)
