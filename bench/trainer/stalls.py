"""How long a training waits for its checkpoints, with a real S3 server on the same machine.

Two things are counted: the time in which the loop hands its state over, and what the steps beside an upload take
longer than the others, as the upload needs the same processors.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import median
from typing import Any

from bench.trainer.contenders import OURS
from bench.trainer.conversations import chat_rows
from bench.trainer.isolation import run_alone
from bench.trainer.models import small_model, smollm2, tokenizer_of
from bench.trainer.report import Section, Verdict, say
from bench.trainer.settings import Settings
from bench.trainer.workload import Trace, Workload, decode_workload, save_rows

_LARGEST_SHARE = 0.05
_BUCKET = "bench"


@dataclass(frozen=True)
class Stalls:
    """What the checkpoints of a training cost it."""

    steps: int
    total_seconds: float
    waits: list[float]
    """Seconds in which the loop handed its state over, for each checkpoint between two steps."""
    uploads: list[float]
    """Seconds from there until the checkpoint was complete in the store."""
    slower_seconds: float
    """What the steps beside an upload took longer than the median of the others, the waits included."""
    step_seconds: float
    """Median of the steps without an upload."""
    checkpoint_bytes: int
    losses: list[float]
    norms: list[float]

    @property
    def share(self) -> float:
        """Share of the time of all steps."""
        return max(self.slower_seconds, sum(self.waits)) / self.total_seconds


def measure(settings: Settings) -> list[Section]:
    """Return the share of step time that checkpoints take."""
    from support.s3server import open_s3_server

    every = settings.pick(50, 5)
    model = small_model(settings.scratch / "stalled", layers=2, hidden=64) if settings.quick else smollm2()
    steps, rows_per_step = 2 * every + max(2, every // 5), 2
    rows = chat_rows(tokenizer_of(smollm2()), 16 * rows_per_step, seed=5, max_length=48, median=8)
    workload = Workload(
        OURS,
        model=str(model),
        rows=save_rows(settings.scratch / "stalled.json", rows),
        steps=steps,
        rows_per_step=rows_per_step,
        rows_at_once=rows_per_step,
        max_length=48,
    )
    say(f"checkpoints: {steps} steps, one every {every}")
    with tempfile.TemporaryDirectory() as folder, open_s3_server(Path(folder)) as server:
        server.client().create_bucket(Bucket=_BUCKET)
        request = json.dumps({"workload": asdict(workload), "every": every, "endpoint": server.endpoint})
        answer = run_alone("stall", request, threads=settings.threads, variables=server.environment)
    found = Stalls(**answer)
    Trace(losses=found.losses, norms=found.norms).check("checkpoints")
    return [_section(found, every)]


def _section(found: Stalls, every: int) -> Section:
    return Section(
        f"Checkpoints: one every {every} steps to a real S3 server (versitygw)",
        ("what", "measured"),
        [
            ("steps, their median without an upload", f"{found.steps}, {1e3 * found.step_seconds:.0f} ms"),
            ("bytes of a checkpoint", f"{found.checkpoint_bytes:,}"),
            ("the loop waits for each", ", ".join(f"{1e3 * each:.0f} ms" for each in found.waits)),
            ("complete in the store after", ", ".join(f"{each:.2f} s" for each in found.uploads)),
            ("steps beside an upload take longer by, in all", f"{1e3 * found.slower_seconds:.0f} ms"),
        ],
        [
            Verdict(
                f"under {_LARGEST_SHARE:.0%} of step time",
                f"waiting alone {sum(found.waits) / found.total_seconds:.2%}, slower steps included {found.share:.2%}",
                found.share < _LARGEST_SHARE,
            )
        ],
        [
            "Short steps on purpose: a training with longer ones waits a smaller share.",
            "The checkpoint after the last step is not counted, as no step follows.",
        ],
    )


def stall(request: dict[str, Any]) -> Stalls:
    """Train with checkpoints, in a process of its own."""
    from bench.trainer import ours
    from lora_trainer.checkpoint.store import CheckpointStore, Identity
    from lora_trainer.checkpoint.uploader import BackgroundUploader, announce

    class TimedUploader(BackgroundUploader):
        """Takes the time of what the loop waits for."""

        def save(self, *arguments: Any, **options: Any) -> float:
            started = time.perf_counter()
            waited = super().save(*arguments, **options)
            handed.append((started, time.perf_counter()))
            return waited

    def saved(checkpoint: Any) -> None:
        complete.append(time.perf_counter())
        announce(context)(checkpoint)

    workload, handed, complete = decode_workload(request["workload"]), [], []
    spec = ours.spec_of(
        workload,
        output={"uri": f"s3://{_BUCKET}/out"},
        storage={"endpoint": request["endpoint"], "pathStyle": True},
        training={"checkpoint": {"every": request["every"], "keep": 2}},
    )
    with tempfile.TemporaryDirectory() as folder:
        context = ours.context_of(spec, Path(folder))
        uploader = TimedUploader(CheckpointStore(context, Identity("bench", "bench", "bench"), keep=2), saved)
        trace = ours.run(workload, ours.make(workload, context, uploader))
        if not uploader.drain(60):
            raise RuntimeError(f"the checkpoints were not stored: {uploader.failure}")
        size = sum(file.size for file in context.storage.list_files(context.output(context.layout.checkpoints)))
    return _stalls(trace, handed, complete, size // 2)


def _stalls(trace: Trace, handed: Sequence[tuple[float, float]], complete: Sequence[float], size: int) -> Stalls:
    """Return what the checkpoints cost, from the times of steps, hand-overs and completed uploads."""
    ends = list(accumulate(trace.seconds, initial=trace.started))
    between = [(hand, done) for hand, done in zip(handed, complete, strict=True) if hand[1] < ends[-1]]
    windows = [(hand[0], done) for hand, done in between]
    spans = list(pairwise(ends))[1:]  # the first step warms up
    beside = [any(start < done and end > begun for begun, done in windows) for start, end in spans]
    alone = median(end - start for (start, end), busy in zip(spans, beside, strict=True) if not busy)
    slower = sum(end - start - alone for (start, end), busy in zip(spans, beside, strict=True) if busy)
    return Stalls(
        steps=len(trace.seconds),
        total_seconds=sum(trace.seconds),
        waits=[hand[1] - hand[0] for hand, _ in between],
        uploads=[done - hand[1] for hand, done in between],
        slower_seconds=slower,
        step_seconds=alone,
        checkpoint_bytes=size,
        losses=trace.losses,
        norms=trace.norms,
    )
