"""What a history of evaluations says."""

import pytest

from lora_api.training import EarlyStopping
from lora_trainer.training.stopping import Evaluation, best_of, overfitting, should_stop


def history(*losses, train=None):
    train = train or [None] * len(losses)
    return [Evaluation(10 * place, loss, each) for place, (loss, each) in enumerate(zip(losses, train, strict=True))]


@pytest.mark.parametrize(
    ("losses", "step"),
    [([2.0], None), ([2.0, 1.5, 1.2, 1.3], 20), ([1.0, 1.5, 1.2], 20), ([2.0, 1.2, 1.2], 10)],
    ids=["the base alone", "the lowest", "never the base", "the first of equals"],
)
def test_the_best_evaluation(losses, step):
    best = best_of(history(*losses))
    assert (best and best.step) == step


@pytest.mark.parametrize(
    ("losses", "stops"),
    [
        ([2.0, 1.9, 1.8, 1.7], False),
        ([2.0, 1.9, 1.95, 1.91], True),
        ([2.0, 1.9, 1.95], False),
        ([2.0, 1.9, 1.8999, 1.8998], True),
        ([2.0, 2.1, 2.2], True),
        ([2.0, 1.9, 1.95, 1.5, 1.6], False),
    ],
    ids=["falling", "no gain twice", "once", "gain too small", "worse than the base", "recovered"],
)
def test_early_stopping_waits_for_a_gain_as_often_as_asked(losses, stops):
    assert should_stop(history(*losses), EarlyStopping(patience=2, minimum_gain=0.001)) is stops


def test_without_the_wish_nothing_stops():
    assert not should_stop(history(1.0, 2.0, 3.0, 4.0, 5.0), None)


@pytest.mark.parametrize(
    ("losses", "train", "alarm"),
    [
        ([2.0, 1.0, 1.1, 1.2], [None, 1.5, 0.8, 0.5], True),
        ([2.0, 1.0, 1.1], [None, 1.5, 0.8], False),
        ([2.0, 1.0, 1.01, 1.015], [None, 1.5, 0.8, 0.5], False),
        ([2.0, 1.0, 1.1, 1.2], [None, 1.5, 1.6, 1.7], False),
        ([2.0, 1.0, 1.2, 0.9], [None, 1.5, 0.8, 0.5], False),
    ],
    ids=["memorizes", "one evaluation", "within 2 %", "diverges, which is another alarm", "recovered"],
)
def test_the_alarm_of_overfitting(losses, train, alarm):
    words = overfitting(history(*losses, train=train))
    assert bool(words) is alarm
    if words:
        assert "from 1 after step 10 to 1.2 after step 30" in words
        assert "fell to 0.5" in words
