"""The status of a LoRAAdapter: in this release what is to be served, and that nothing delivers it yet."""

from datetime import datetime

from lora_api.conditions import Condition, set_condition, whole_seconds
from lora_api.loraadapter import LoRAAdapterStatus
from lora_api.reasons import ConditionType, Reason
from lora_operator.domain.observed import ObservedAdapter

_MESSAGE = "Delivery to inference pods is not part of this release; an engine can load the adapter from spec.source.uri"


def next_adapter_status(adapter: ObservedAdapter, now: datetime) -> LoRAAdapterStatus | None:
    """Return the new status, or None when it has not changed."""
    before = LoRAAdapterStatus.model_validate(adapter.status)
    ready = Condition(
        type=ConditionType.READY,
        status="Unknown",
        observed_generation=adapter.generation,
        last_transition_time=whole_seconds(now),
        reason=Reason.NOT_SUPPORTED,
        message=_MESSAGE,
    )
    moved = before.digest is not None and before.digest != adapter.digest
    after = before.model_copy(
        update={
            "observed_generation": adapter.generation,
            "conditions": list(set_condition(before.conditions, ready)),
            "digest": adapter.digest,
            "previous_digest": before.digest if moved else before.previous_digest,
        }
    )
    return None if after == before else after
