"""One pass over a LoRAAdapter: says what is to be served. Delivery to inference pods comes in a later release."""

from collections.abc import Callable
from datetime import datetime

from lora_operator.cluster.client import LORAADAPTERS, Client
from lora_operator.cluster.execute import write_adapter_status
from lora_operator.domain.adapter_status import next_adapter_status
from lora_operator.domain.reading import read_adapter


class LoRAAdapterReconciler:
    """Keeps the status of one LoRAAdapter right."""

    def __init__(self, client: Client, now: Callable[[], datetime]) -> None:
        """Keep the tools; a pass keeps nothing."""
        self._client = client
        self._now = now

    async def reconcile(self, namespace: str, name: str) -> float | None:
        """Make one pass."""
        document = await self._client.get(LORAADAPTERS, namespace, name)
        if document is None or "deletionTimestamp" in document["metadata"]:
            return None
        adapter = read_adapter(document)
        if status := next_adapter_status(adapter, self._now()):
            await write_adapter_status(self._client, adapter, status)
        return None
