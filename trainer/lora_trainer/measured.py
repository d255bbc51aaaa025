"""The loss curve of the last words, from what this process has written to metrics.jsonl.

That file begins with the history of the checkpoint that the attempt went on from, so the curve is that of the whole
run, however the process ended. Best effort: a file that cannot be read never changes how a run ends.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from lora_api.loss_curve import CurvePoint, curve_of


def measured_curve(metrics: Path) -> list[CurvePoint] | None:
    """Return the losses over all steps so far; None if nothing was measured."""
    try:
        with metrics.open(encoding="utf-8") as lines:
            return curve_of(_points(lines)) or None
    except (OSError, UnicodeDecodeError):
        return None


def _points(lines: Iterator[str]) -> Iterator[CurvePoint]:
    for line in lines:
        try:
            said = json.loads(line)
            point = CurvePoint(step=said["step"], loss=said.get("loss"), eval_loss=said.get("evalLoss"))
        except (ValueError, LookupError, TypeError, AttributeError):
            continue  # a line that a full disk, or a signal, has cut
        yield point
