"""The loss curve of the status: a bounded number of points over the steps of a run, for a picture of its training.

A run has thousands of steps and a status has little room, so points are thinned out as the run goes on. Pure: the same
answer of a pod, heard twice, changes nothing.
"""

import math

from lora_api.lorajob_status import MAX_CURVE_POINTS, CurvePoint
from lora_api.messages import Progress

_DIGITS = 6
"""Significant digits of a loss: more than a picture shows, and short enough for a status."""
_EVALUATION_WEIGHT = 4.0
"""An evaluation costs time and is rare: a point with one stays until the others lie this much further apart."""


def extend(curve: list[CurvePoint], progress: Progress) -> list[CurvePoint]:
    """Return the curve with what a pod said: sorted by step, its newest point last, at most MAX_CURVE_POINTS.

    Progress without a step or without a loss adds nothing. A step before the newest one means that the training went
    back to a checkpoint: the points after it are of steps that are done again.
    """
    loss, eval_loss = _finite(progress.loss), _finite(progress.eval_loss)
    if progress.step < 1 or (loss is None and eval_loss is None):
        return curve
    before, same = _before(curve, progress)
    if eval_loss == _last_evaluation(before):
        eval_loss = None  # the pod repeats its last evaluation until the next one
    if loss is None and eval_loss is None:
        return curve
    if same is not None:
        loss = same.loss if loss is None else loss
        eval_loss = same.eval_loss if eval_loss is None else eval_loss
    extended = [*before, CurvePoint(step=progress.step, loss=loss, eval_loss=eval_loss)]
    return curve if extended == curve else _thinned(extended)


def _finite(loss: float | None) -> float | None:
    return float(f"{loss:.{_DIGITS}g}") if loss is not None and math.isfinite(loss) else None


def _before(curve: list[CurvePoint], progress: Progress) -> tuple[list[CurvePoint], CurvePoint | None]:
    """Return the points that stay before the new one, and the one of the same step if it is the newest."""
    newest = curve[-1] if curve else None
    if newest is None or newest.step < progress.step:
        return curve, None
    if newest.step == progress.step:
        return curve[:-1], newest
    resumed = progress.resumed_from_step
    end = progress.step if resumed is None else min(progress.step, resumed + 1)
    return [each for each in curve if each.step < end], None


def _last_evaluation(curve: list[CurvePoint]) -> float | None:
    return next((each.eval_loss for each in reversed(curve) if each.eval_loss is not None), None)


def _thinned(curve: list[CurvePoint]) -> list[CurvePoint]:
    while len(curve) > MAX_CURVE_POINTS:
        drop = _least_missed(curve)
        curve = [*curve[:drop], *curve[drop + 1 :]]
    return curve


def _least_missed(curve: list[CurvePoint]) -> int:
    """Return the index of the point whose neighbours lie nearest to each other.

    The first and the newest point stay, and so does the last evaluation, which says what is new about the next one.
    """
    last = max((index for index, each in enumerate(curve) if each.eval_loss is not None), default=0)
    inner = [index for index in range(1, len(curve) - 1) if index != last]
    return min(inner, key=lambda index: _span(curve, index))


def _span(curve: list[CurvePoint], index: int) -> float:
    span = curve[index + 1].step - curve[index - 1].step
    return span * (1.0 if curve[index].eval_loss is None else _EVALUATION_WEIGHT)
