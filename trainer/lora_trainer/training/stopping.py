"""What the evaluations of a run say: which one was best, when to stop, whether the model memorizes.

Pure functions of the whole history, so that a training that goes on from a checkpoint decides the same.
"""

from collections.abc import Sequence
from typing import NamedTuple

from lora_api.training import EarlyStopping

_ALARM_RISE = 0.02
"""Share that the evaluation loss lies above its best one before it is an alarm."""
_ALARM_EVALUATIONS = 2


class Evaluation(NamedTuple):
    """One evaluation: the step after which it was made, its loss, and the mean training loss since the one before."""

    step: int
    loss: float
    train_loss: float | None = None


def best_of(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """Return the evaluation of the best trained model; the base model (step 0) is none."""
    trained = [each for each in evaluations if each.step > 0]
    return min(trained, key=lambda each: (each.loss, each.step)) if trained else None


def should_stop(evaluations: Sequence[Evaluation], wish: EarlyStopping | None) -> bool:
    """Return whether the last `patience` evaluations brought no relative gain of `minimum_gain`."""
    if wish is None:
        return False
    best, without_gain = float("inf"), 0
    for each in evaluations:
        gained = each.loss < best * (1 - wish.minimum_gain)
        best, without_gain = (each.loss, 0) if gained else (best, without_gain + 1)
    return without_gain >= wish.patience


def overfitting(evaluations: Sequence[Evaluation]) -> str | None:
    """Return in one sentence why the run looks overfitted, or None.

    The alarm: two evaluations in a row lie more than 2 % above the best one, while the training loss went on falling.
    """
    best = min(evaluations, key=lambda each: each.loss, default=None)
    last = evaluations[-_ALARM_EVALUATIONS:]
    if best is None or len(last) < _ALARM_EVALUATIONS or any(each.step <= best.step for each in last):
        return None
    risen = all(each.loss > best.loss * (1 + _ALARM_RISE) for each in last)
    at_best = best.train_loss if best.train_loss is not None else float("inf")
    fell = last[-1].train_loss is not None and last[-1].train_loss < at_best
    if not (risen and fell):
        return None
    return (
        f"the evaluation loss rose from {best.loss:.4g} after step {best.step} to {last[-1].loss:.4g} after step "
        f"{last[-1].step}, while the training loss fell to {last[-1].train_loss:.4g}; "
        "stop earlier, lower spec.lora.rank, or add data"
    )
