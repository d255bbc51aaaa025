"""One pass over a LoRAAdapter: look at it and at the pods that ask for it, plan, execute. No `if` about the domain."""

import logging
from collections.abc import Callable
from datetime import datetime

from lora_operator.cluster.agents import AgentReader
from lora_operator.cluster.client import LORAADAPTERS, Client
from lora_operator.cluster.desires import DesireWriter
from lora_operator.cluster.execute import execute_adapter, tell
from lora_operator.cluster.inference import InferencePods
from lora_operator.domain.adapter_plan import plan_adapter
from lora_operator.domain.adapter_pods import ServingPod, in_motion, serving_pod
from lora_operator.domain.inference import InferencePod
from lora_operator.domain.reading import read_adapter
from lora_operator.reconcile.keys import Key, Kind
from lora_operator.reconcile.witness import Witness

_LOG = logging.getLogger(__name__)
_UNASKED_SECONDS = 2.0
"""Until another look. The first question comes at once, and its answer, or none, brings a pass by itself."""
_UNSYNCED_SECONDS = 1.0
"""Until a pass is tried again that does not know the pods yet. It must not wait: workers are few."""


class LoRAAdapterReconciler:
    """Brings what the pods serve nearer to what a LoRAAdapter says."""

    def __init__(
        self,
        client: Client,
        pods: InferencePods,
        agents: AgentReader,
        desires: DesireWriter,
        now: Callable[[], datetime],
        witness: Witness = Witness(),  # noqa: B008 - without state
    ) -> None:
        """Keep the tools; a pass keeps nothing."""
        self._client = client
        self._pods = pods
        self._agents = agents
        self._desires = desires
        self._now = now
        self._witness = witness

    async def reconcile(self, namespace: str, name: str) -> float | None:
        """Make one pass. Returns the seconds until the next one, or None if an event will ask for it."""
        if not self._pods.synced:  # without them a rollout would look finished
            return _UNSYNCED_SECONDS
        key = Key(Kind.LORAADAPTER, namespace, name)
        with self._witness.part("observe"):
            document = await self._client.get(LORAADAPTERS, namespace, name)
            pods = [self._look(each, name) for each in self._pods.for_adapter(namespace, name)]
        if document is None:
            self._witness.delivered(key, None)
            self._forget(name, pods)
            return None
        if any(each.unasked for each in pods):  # else a start of ours would look as if nobody served anything
            return _UNASKED_SECONDS
        adapter, now = read_adapter(document), self._now()
        with self._witness.part("plan"):
            planned = plan_adapter(adapter, pods, now)
        for event in planned.events:
            _LOG.info("%s", event.message, extra={"reason": event.reason})
        with self._witness.part("execute"):
            await execute_adapter(self._client, self._desires, adapter, planned, now)
        self._witness.delivered(key, planned)
        return planned.requeue_after

    def _look(self, pod: InferencePod, name: str) -> ServingPod:
        """Return how a pod stands to the adapter, and have it asked often while it is about to change."""
        report = self._agents.read(pod, soon=False)
        if in_motion(pod, report.status):
            report = self._agents.read(pod, soon=True)
        return serving_pod(pod, report, name)

    def _forget(self, name: str, pods: list[ServingPod]) -> None:
        """Take a LoRAAdapter that is gone, whoever removed our finalizer, out of what the pods are told."""
        for each in pods:
            if each.told is not None:
                tell(self._desires, each.pod, name, None)
