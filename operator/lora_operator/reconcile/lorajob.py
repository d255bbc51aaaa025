"""One pass over a LoRAJob: observe, plan, execute. It holds no state and no `if` about the domain."""

from collections.abc import Callable
from datetime import datetime

from lora_operator.cluster.client import Client
from lora_operator.cluster.execute import execute
from lora_operator.cluster.observe import Observer
from lora_operator.domain.errors import RefusedError
from lora_operator.domain.plan import plan, plan_refused
from lora_operator.domain.settings import Settings


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
        if observed is None:
            return None
        now = self._now()
        planned = plan(observed, self._settings, now)
        try:
            await execute(self._client, observed.job, planned, now)
        except RefusedError as refused:
            await execute(self._client, observed.job, plan_refused(observed, planned, refused, now), now)
            return self._settings.refused_interval
        return planned.requeue_after
