"""One pass over a LoRAJob: observe, plan, execute. It holds no `if` about the domain.

The first pass over a job makes its first objects and says nothing yet; what it says comes with the pass that the new
objects ask for. So of a thousand jobs that are applied at once none waits for what is told about another.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from lora_operator.cluster.client import AlreadyExistsError, Client
from lora_operator.cluster.execute import execute
from lora_operator.cluster.observe import Observer
from lora_operator.domain.errors import RefusedError
from lora_operator.domain.measures import measures
from lora_operator.domain.needs import Needs, everything, first_needs, needs_of
from lora_operator.domain.observed import Observed, ObservedJob
from lora_operator.domain.plan import Plan, plan, plan_refused
from lora_operator.domain.settings import Settings
from lora_operator.reconcile.keys import Key, Kind
from lora_operator.reconcile.witness import Witness

_LOG = logging.getLogger(__name__)
_FIRST_STATUS_SECONDS = 1.0
"""Until a job is looked at again whose first object was made, if that object's own event does not come sooner."""


class LoRAJobReconciler:
    """Brings one LoRAJob nearer to what its user asked for."""

    def __init__(
        self,
        client: Client,
        observer: Observer,
        settings: Settings,
        now: Callable[[], datetime],
        witness: Witness = Witness(),  # noqa: B008 - without state
    ) -> None:
        """Keep the tools; a pass keeps nothing. `witness` hears how each pass goes."""
        self._client = client
        self._observer = observer
        self._settings = settings
        self._now = now
        self._witness = witness
        self._begun: set[Key] = set()
        """Jobs whose first object exists and whose status does not say so yet; only saves a failing request."""

    async def reconcile(self, namespace: str, name: str) -> float | None:
        """Make one pass. Returns the seconds until the next one, or None if an event will ask for it."""
        key = Key(Kind.LORAJOB, namespace, name)
        try:
            return await self._pass(key, await self._observe(key, first_needs if key in self._begun else needs_of))
        except AlreadyExistsError as found:
            _LOG.info("%s is there already; all is looked at again", found)
            return await self._pass(key, await self._observe(key, everything))

    async def _observe(self, key: Key, needs: Callable[[ObservedJob], Needs]) -> Observed | None:
        with self._witness.part("observe"):
            observed = await self._observer.observe(key.namespace, key.name, needs)
        if observed is None:
            self._begun.discard(key)
            self._witness.finished(key, None, ())
        else:
            self._witness.read(observed.job.generation)
        return observed

    async def _pass(self, key: Key, observed: Observed | None) -> float | None:
        if observed is None:
            return None
        now = self._now()
        with self._witness.part("plan"):
            planned = plan(observed, self._settings, now)
        try:
            if observed.job.status.run is None and planned.create and key not in self._begun:
                return await self._begin(key, observed.job, planned, now)
            self._begun.discard(key)
            await self._execute(key, observed.job, planned, now)
        except RefusedError as refused:
            _LOG.warning("%s", refused)
            self._witness.refused(key)
            await self._execute(key, observed.job, plan_refused(observed, planned, refused, now), now)
            return self._settings.refused_interval
        return planned.requeue_after

    async def _begin(self, key: Key, job: ObservedJob, planned: Plan, now: datetime) -> float:
        self._begun.add(key)
        await self._execute(key, job, replace(planned, status=None, events=()), now)
        return _FIRST_STATUS_SECONDS

    async def _execute(self, key: Key, job: ObservedJob, planned: Plan, now: datetime) -> None:
        for each in planned.delete:
            _LOG.info("Deletes %s %s: %s", each.kind, each.name, each.why)
        with self._witness.part("execute"):
            await execute(self._client, job, planned, now)
        for event in planned.events:
            _LOG.info("%s", event.message, extra={"reason": event.reason})
        after = planned.status or job.status
        made = (*planned.create, *planned.apply)
        self._witness.finished(key, after.phase, measures(job.status, after, job, self._now(), made))
