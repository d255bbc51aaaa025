"""Sample values that unit and integration tests share."""

from datetime import UTC, datetime
from typing import Any

from lora_api.messages import (
    Activity,
    AdapterResult,
    MemoryEstimate,
    Plan,
    Progress,
    Resolved,
    SavedCheckpoint,
    Servability,
    TerminationMessage,
)
from support.specs import SMALLEST

DIGEST = "sha256:" + "ab" * 32

RESOLVED = Resolved(
    base_revision="sha256:" + "cd" * 32,
    dataset_digest="ef" * 32,
    rows=950,
    validation_rows=50,
    tokens=123_456,
    parameters=134_515_008,
    trainable_parameters=4_884_480,
    plan=Plan(micro_batch_size=4, accumulation_steps=4, max_length=512, total_steps=118),
    memory_estimate=MemoryEstimate(total=10, weights=4, adapter=3, activations=2, logits=1),
    format="Messages",
    adapter_bytes=19_537_920,
    full_bytes=269_030_016,
    estimated_seconds=900,
    servable=[Servability(engine="vllm", servable=True), Servability(engine="sglang", servable=True)],
)


def checkpoint(step: int) -> SavedCheckpoint:
    """Return the checkpoint of a step."""
    uri = f"s3://models/prefix/team-a/support-bot/runs/1/checkpoints/step-{step:08d}"
    return SavedCheckpoint(step=step, uri=uri, time=datetime(2026, 1, 2, 4, 0, tzinfo=UTC))


PROGRESS = Progress(
    activity=Activity.TRAINING,
    step=60,
    total_steps=118,
    epoch=1.0,
    percent=50.8,
    loss=1.4,
    eval_loss=1.6,
    tokens_per_second=5000.0,
    micro_batch_size=4,
    accumulation_steps=4,
    checkpoint=checkpoint(50),
)
ADAPTER = AdapterResult(
    uri=f"s3://models/prefix/team-a/support-bot/adapters/{DIGEST.replace(':', '-')}",
    digest=DIGEST,
    bytes=19_543_210,
    metrics={"trainLoss": 1.25, "evalLoss": 1.5},
)
PREFLIGHT_DONE = TerminationMessage(reason="Finished", message="950 rows, 118 steps", preflight=RESOLVED)
TRAIN_DONE = TerminationMessage(reason="Finished", message="Trained 118 steps", step=118, adapter=ADAPTER)


def lorajob_spec(**changes: Any) -> dict[str, Any]:
    """Return the shortest spec that this release runs, with top-level fields replaced."""
    return SMALLEST | {"output": {"uri": "s3://models/prefix"}} | changes


def lorajob(name: str = "support-bot", **changes: Any) -> dict[str, Any]:
    """Return a LoRAJob as a user writes it."""
    return {
        "apiVersion": "lora-operator.io/v1alpha1",
        "kind": "LoRAJob",
        "metadata": {"name": name},
        "spec": lorajob_spec(**changes),
    }
