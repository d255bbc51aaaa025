"""One pass over a LoRAJob: observe, plan, execute. It holds no state and no `if` about the domain."""

import logging
from collections.abc import Callable
from datetime import datetime

from lora_operator.cluster.client import AlreadyExistsError, Client
from lora_operator.cluster.execute import execute
from lora_operator.cluster.observe import EVERYTHING, Observer
from lora_operator.domain.errors import RefusedError
from lora_operator.domain.observed import Observed, ObservedJob
from lora_operator.domain.plan import Plan, plan, plan_refused
from lora_operator.domain.settings import Settings

_LOG = logging.getLogger(__name__)


class LoRAJobReconciler:
    """Brings one LoRAJob nearer to what its user asked for."""

    def __init__(self, client: Client, observer: Observer, settings: Settings, now: Callable[[], datetime]) -> None:
        """Keep the tools; a pass keeps nothing."""
        self._client = client
        self._observer = observer
        self._settings = settings
        self._now = now

    async def reconcile(self, namespace: str, name: str) -> float | None:
        """Make one pass. Returns the seconds until the next one, or None if an event will ask for it."""
        observed = await self._observer.observe(namespace, name)
        try:
            return await self._pass(observed)
        except AlreadyExistsError as found:
            _LOG.info("%s/%s: %s is there already; all is looked at again", namespace, name, found)
            return await self._pass(await self._observer.observe(namespace, name, EVERYTHING))

    async def _pass(self, observed: Observed | None) -> float | None:
        if observed is None:
            return None
        now = self._now()
        planned = plan(observed, self._settings, now)
        try:
            await self._execute(observed.job, planned, now)
        except RefusedError as refused:
            _LOG.warning("%s/%s: %s", observed.job.namespace, observed.job.name, refused)
            await self._execute(observed.job, plan_refused(observed, planned, refused, now), now)
            return self._settings.refused_interval
        return planned.requeue_after

    async def _execute(self, job: ObservedJob, planned: Plan, now: datetime) -> None:
        for each in planned.delete:
            _LOG.info("%s/%s: deletes %s %s: %s", job.namespace, job.name, each.kind, each.name, each.why)
        await execute(self._client, job, planned, now)
        for event in planned.events:
            _LOG.info("%s/%s: %s: %s", job.namespace, job.name, event.reason, event.message)
