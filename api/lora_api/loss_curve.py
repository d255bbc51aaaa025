"""The loss curve of a run: a bounded number of points over its steps, for a picture of its training.

A run has thousands of steps, and a status and a termination message have little room. So points are thinned out, by one
rule for the trainer, which has measured all of them, and for the operator, which hears of one now and then. Pure: the
same points give the same curve, and a curve gives itself.
"""

import heapq
import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError

from lora_api.base import StatusModel

MAX_CURVE_POINTS: Final = 60
"""Of the loss curve in the status: enough for a picture, some 3 kB."""

_DIGITS = 6
"""Significant digits of a loss: more than a picture shows, and short enough for a status."""
_EVALUATION_WEIGHT = 4.0
"""An evaluation costs time and is rare: a point with one stays until the others lie this much further apart."""
_LARGEST_STEP = 2**53
"""What every reader of JSON can count up to."""


class CurvePoint(StatusModel):
    """One point of the loss curve."""

    step: int
    loss: float | None = None
    eval_loss: float | None = None


def shown_loss(loss: float | None) -> float | None:
    """Return a loss as a curve has it, None for one that is not finite."""
    return float(f"{loss:.{_DIGITS}g}") if loss is not None and math.isfinite(loss) else None


def curve_of(points: Iterable[CurvePoint]) -> list[CurvePoint]:
    """Return the curve through some points: sorted by step, one point a step, at most MAX_CURVE_POINTS.

    Of several losses of one step the last one counts. Losses that are not finite are left out.
    """
    losses: dict[int, CurvePoint] = {}
    for each in points:
        loss, eval_loss = shown_loss(each.loss), shown_loss(each.eval_loss)
        known = losses.get(each.step)
        if known is not None:
            loss = known.loss if loss is None else loss
            eval_loss = known.eval_loss if eval_loss is None else eval_loss
        if loss is not None or eval_loss is not None:
            losses[each.step] = CurvePoint(step=each.step, loss=loss, eval_loss=eval_loss)
    return thinned([losses[step] for step in sorted(losses)])


def thinned(curve: Sequence[CurvePoint], most: int = MAX_CURVE_POINTS) -> list[CurvePoint]:
    """Return at most so many points of a curve: again and again the one goes whose neighbours lie nearest.

    The first and the newest point stay, and so do the first loss and the last evaluation, which says what is new about
    the next one. `most` is at least as many. Takes a second for 200,000 points.
    """
    before, after = [each - 1 for each in range(len(curve))], [each + 1 for each in range(len(curve))]

    def span(index: int) -> float:
        steps = curve[after[index]].step - curve[before[index]].step
        return steps * (1.0 if curve[index].eval_loss is None else _EVALUATION_WEIGHT)

    kept = _kept(curve)
    waiting = [(span(index), index) for index in range(len(curve)) if index not in kept] if len(curve) > most else []
    heapq.heapify(waiting)
    gone: set[int] = set()
    while len(curve) - len(gone) > most and waiting:
        noted, index = heapq.heappop(waiting)
        if (wider := span(index)) > noted:  # a neighbour has gone since
            heapq.heappush(waiting, (wider, index))
            continue
        gone.add(index)
        before[after[index]], after[before[index]] = before[index], after[index]
    return [each for index, each in enumerate(curve) if index not in gone]


def _kept(curve: Sequence[CurvePoint]) -> set[int]:
    """Return the indexes of the points that stay."""
    evaluations = [index for index, each in enumerate(curve) if each.eval_loss is not None]
    losses = (index for index, each in enumerate(curve) if each.loss is not None)
    return {0, len(curve) - 1, next(losses, 0), *evaluations[-1:]}


Measured = tuple[Annotated[int, Field(ge=0, le=_LARGEST_STEP)], float]
"""A step and a loss."""


class _Packed(StatusModel):
    """A curve where each byte counts: two lists of pairs. None of them has a hole, which a reader might close."""

    loss: list[Measured] = []
    eval_loss: list[Measured] = []


def _pack(curve: list[CurvePoint] | None) -> dict[str, Any] | None:
    """Return the lists; None for a curve that they cannot carry. A picture is not worth the words around it."""
    if curve is None:
        return None
    loss = [(each.step, each.loss) for each in curve if each.loss is not None]
    eval_loss = [(each.step, each.eval_loss) for each in curve if each.eval_loss is not None]
    try:
        packed = _Packed(loss=loss, eval_loss=eval_loss)
    except ValidationError:
        return None
    return packed.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _unpack(value: Any) -> Any:
    """Return the points; None for what is no curve."""
    if isinstance(value, list) and all(isinstance(each, CurvePoint) for each in value):
        return value
    try:
        packed = _Packed.model_validate(value)
    except ValidationError:
        return None
    losses = [CurvePoint(step=step, loss=loss) for step, loss in packed.loss]
    return curve_of([*losses, *(CurvePoint(step=step, eval_loss=loss) for step, loss in packed.eval_loss)])


PackedCurve = Annotated[list[CurvePoint] | None, BeforeValidator(_unpack), PlainSerializer(_pack)]
"""A curve that travels as `{"loss": [[step, loss], …], "evalLoss": [[step, loss], …]}`."""
