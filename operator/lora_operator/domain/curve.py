"""The loss curve of the status, from what a pod says: one point of it now and then, and the whole when it ends.

Pure: the same words of a pod, heard twice, change nothing.
"""

import math

from lora_api.loss_curve import CurvePoint, curve_of, shown_loss, thinned
from lora_api.messages import Progress, TerminationMessage

_ROUNDING = 6e-5
"""A pod tells losses with four decimals, and its last words have more: as far apart may be what is one evaluation."""


def extend(curve: list[CurvePoint], progress: Progress) -> list[CurvePoint]:
    """Return the curve with what a pod said: sorted by step, its newest point last, at most MAX_CURVE_POINTS.

    Progress without a step or without a loss adds nothing. A step before the newest one means that the training went
    back to a checkpoint: the points after it are of steps that are done again.
    """
    loss, eval_loss = shown_loss(progress.loss), shown_loss(progress.eval_loss)
    if progress.step < 1 or (loss is None and eval_loss is None):
        return curve
    before, same = _before(curve, progress)
    if eval_loss is not None and _is_repeated(eval_loss, _last_evaluation(before)):
        eval_loss = None  # the pod repeats its last evaluation until the next one
    if loss is None and eval_loss is None:
        return curve
    if same is not None:
        loss = same.loss if loss is None else loss
        eval_loss = same.eval_loss if eval_loss is None else eval_loss
    extended = [*before, CurvePoint(step=progress.step, loss=loss, eval_loss=eval_loss)]
    return curve if extended == curve else thinned(extended)


def complete(curve: list[CurvePoint], words: TerminationMessage) -> list[CurvePoint]:
    """Return the curve that the last words of a pod carry, which is that of all attempts up to them.

    Words without one leave what was heard: of an older trainer, or of an attempt that ended before it trained.
    """
    return curve_of(words.loss_curve) if words.loss_curve else curve


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


def _is_repeated(eval_loss: float, last: float | None) -> bool:
    return last is not None and math.isclose(eval_loss, last, rel_tol=0, abs_tol=_ROUNDING)


def _last_evaluation(curve: list[CurvePoint]) -> float | None:
    return next((each.eval_loss for each in reversed(curve) if each.eval_loss is not None), None)
