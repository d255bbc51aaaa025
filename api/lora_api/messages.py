"""What a trainer pod says to the operator: progress while it runs, one termination message when it ends.

Neither carries a row of the user's data. The termination message is bounded by the kubelet, so the texts in it are cut
here, on the writer's side, where the JSON around them stays whole.
"""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum

from lora_api.base import StatusModel
from lora_api.loss_curve import MAX_CURVE_POINTS, CurvePoint, PackedCurve, thinned
from lora_api.names import TERMINATION_MESSAGE_BYTES


class Activity(StrEnum):
    """What a training pod does at the moment."""

    STARTING = "Starting"
    LOADING_DATA = "LoadingData"
    LOADING_MODEL = "LoadingModel"
    TRAINING = "Training"
    EVALUATING = "Evaluating"
    PUBLISHING = "Publishing"
    FINISHED = "Finished"


class SavedCheckpoint(StatusModel):
    """A checkpoint that is complete in the store."""

    step: int
    uri: str
    time: datetime


class Progress(StatusModel):
    """Answer of `GET /progress`, and `status.progress`."""

    activity: Activity = Activity.STARTING
    """What the pod does at the moment."""
    step: int = 0
    """Finished optimizer steps."""
    total_steps: int | None = None
    """Steps of the whole run."""
    epoch: float | None = None
    """Finished passes over the data."""
    percent: float | None = None
    """Finished share of the run, 0 to 100."""
    loss: float | None = None
    """Training loss of the last step, mean over supervised tokens; of the last tenth of the steps when finished."""
    eval_loss: float | None = None
    """Last evaluation loss, mean over all supervised tokens of the validation set."""
    tokens_per_second: float | None = None
    """Tokens trained on per second, without padding, over the last steps."""
    eta_time: datetime | None = None
    """When the run is expected to end."""
    micro_batch_size: int | None = None
    """Rows a device holds at once; smaller than planned after a device ran out of memory."""
    accumulation_steps: int | None = None
    """Micro-batches an optimizer step; the product of both stays as it was planned."""
    resumed_from_step: int | None = None
    """Step of the checkpoint that this attempt went on from."""
    checkpoint: SavedCheckpoint | None = None
    """Newest complete checkpoint."""
    overfitting: str | None = None
    """Why the run looks overfitted, in one sentence; none while it does not."""


class Plan(StatusModel):
    """What preflight decided about the batches."""

    micro_batch_size: int
    """Rows of maxLength tokens that a device holds at once; of shorter rows it holds more."""
    accumulation_steps: int
    """Micro-batches an optimizer step, at most."""
    max_length: int
    """Longest row in tokens."""
    total_steps: int
    """Optimizer steps of the whole run."""
    packing: bool = False
    """Whether rows lie end to end in one sequence, without seeing each other and without padding."""
    activation_checkpointing: bool = False
    """Whether activations are computed again in the backward pass."""
    sharded: bool = False
    """Whether each device holds a part of the base model only."""


class MemoryEstimate(StatusModel):
    """Expected peak memory of one device, in bytes, with its terms."""

    total: int
    weights: int
    adapter: int
    """Adapter weights, gradients and optimizer states."""
    activations: int
    logits: int
    working: int = 0
    """What libraries and temporary values take besides."""


class Servability(StatusModel):
    """Whether one inference engine can load the adapter."""

    engine: str
    servable: bool
    message: str = ""


class Resolved(StatusModel):
    """What the request turned out to mean; `status.resolved`."""

    base_revision: str
    """Commit of a hub model, or the digest of the listing of an S3 or volume folder."""
    dataset_digest: str
    """SHA-256 of the data files."""
    rows: int
    """Rows trained on."""
    validation_rows: int = 0
    """Rows validated on."""
    tokens: int
    """Tokens of one epoch."""
    parameters: int
    """Parameters of the base model."""
    trainable_parameters: int
    """Parameters of the adapter."""
    plan: Plan
    memory_estimate: MemoryEstimate
    format: str = ""
    """Format of the rows that was asked for or detected."""
    truncated_rows: int = 0
    """Rows that are longer than maxLength."""
    duplicate_rows: int = 0
    """Rows with the same content as an earlier one."""
    adapter_bytes: int = 0
    """Size of the adapter's weights."""
    full_bytes: int = 0
    """Size of a full copy of the model, which fine-tuning all weights would give."""
    estimated_seconds: int | None = None
    """Expected time of the training, where the throughput of the device is known."""
    servable: list[Servability] = []
    """Verdict for each engine, before the training."""
    warnings: list[str] = []
    """What the user should know, the most important first; the whole list is in report.json."""


class AdapterResult(StatusModel):
    """A published adapter; `status.adapter`."""

    uri: str
    """Folder of the adapter; its manifest.json was written last."""
    digest: str
    """sha256:<hex> of the canonical list of its files."""
    bytes: int
    """Size of all files."""
    metrics: dict[str, float] = {}
    """Final metrics, such as trainLoss and evalLoss."""
    servable: list[Servability] = []
    """Verdict for each engine."""


class TerminationMessage(StatusModel):
    """The last words of a trainer container."""

    reason: str
    """One of `lora_api.reasons.Reason`; Finished when it is done."""
    message: str
    """What happened, in one sentence."""
    hint: str = ""
    """What to change."""
    step: int | None = None
    """Finished optimizer steps."""
    adapter: AdapterResult | None = None
    """Of a train pod that is done."""
    preflight: Resolved | None = None
    """Of a preflight pod that is done."""
    checkpoint: SavedCheckpoint | None = None
    """Newest complete checkpoint, from which another attempt goes on."""
    micro_batch_size: int | None = None
    """Rows that a device held at once in the end."""
    overfitting: str | None = None
    """Why the run looks overfitted; empty when its evaluations say that it does not, none without evaluations."""
    loss_curve: PackedCurve = None
    """Losses over the whole run, also from before this attempt; none where nothing was measured."""

    def encode(self) -> bytes:
        """Return the JSON, within the kubelet's limit: for it texts are cut and the curve is thinned, see `_ROOM`.

        Where addresses alone fill the room, what can be read elsewhere goes too: verdicts, metrics, the checkpoint.
        """
        encoded = b""
        for each in self._shorter_and_shorter():
            encoded = each.model_dump_json(by_alias=True, exclude_none=True).encode()
            if len(encoded) <= TERMINATION_MESSAGE_BYTES:
                break
        return encoded

    def _shorter_and_shorter(self) -> Iterator["TerminationMessage"]:
        for room, points in _ROOM:
            yield self._shortened(room, points)
        least = self._shortened(*_ROOM[-1])
        adapter = least.adapter and least.adapter.model_copy(update={"servable": [], "metrics": {}})
        yield least.model_copy(update={"adapter": adapter, "checkpoint": None if adapter else least.checkpoint})

    def _shortened(self, room: int, points: int) -> "TerminationMessage":
        return self.model_copy(
            update={
                "loss_curve": _thinned(self.loss_curve, points),
                "message": _cut(self.message, room),
                "hint": _cut(self.hint, room),
                "overfitting": self.overfitting and _cut(self.overfitting, room),
                "adapter": self.adapter and self.adapter.model_copy(update=_short_verdicts(self.adapter, room)),
                "preflight": self.preflight and _short_findings(self.preflight, room),
            }
        )


_ROOM = (
    *((room, MAX_CURVE_POINTS) for room in (1500, 750, 375)),
    *((375, points) for points in (30, 15, 0)),
    *((room, 0) for room in (187, 93, 46, 23, 11)),
)
"""Characters for each text and points of the curve, less and less, until the whole fits: long texts are cut first, then
the curve goes, and what people need most goes last."""


def _thinned(curve: list[CurvePoint] | None, points: int) -> list[CurvePoint] | None:
    return thinned(curve, points) if curve and points else None


def _short_findings(resolved: Resolved, room: int) -> Resolved:
    # The first warnings are the most important ones; fewer of them fit when each has to be shorter.
    warnings = [_cut(each, room) for each in resolved.warnings[: max(1, room // 64)]]
    return resolved.model_copy(update={"warnings": warnings, **_short_verdicts(resolved, room)})


def _short_verdicts(said: Resolved | AdapterResult, room: int) -> dict[str, list[Servability]]:
    return {"servable": [each.model_copy(update={"message": _cut(each.message, room)}) for each in said.servable]}


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
