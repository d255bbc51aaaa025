"""The guard: a lost run is told from a hard one, and never looks like a success."""

import math

import pytest

from lora_api.exit_codes import ExitCode
from lora_trainer.errors import TrainerError
from lora_trainer.training.guard import LossGuard

GUESSING = math.log(1000)  # 6.9


def ends(call):
    with pytest.raises(TrainerError) as caught:
        call()
    return caught.value.exit_code


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, 21.0])
def test_a_loss_that_will_not_come_back_ends_the_run(loss):
    guard = LossGuard(GUESSING)
    guard.check_step(1, 2.0, 1.0)
    assert ends(lambda: guard.check_step(2, loss, 1.0)) == ExitCode.DIVERGED


@pytest.mark.parametrize("loss", [0.0, 6.9, 20.0])
def test_a_hard_batch_does_not(loss):
    guard = LossGuard(GUESSING)
    guard.check_step(1, 2.0, 1.0)
    guard.check_step(2, loss, 1.0)


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_a_gradient_that_is_no_number_ends_the_run(norm):
    assert ends(lambda: LossGuard(GUESSING).check_step(1, 2.0, norm)) == ExitCode.DIVERGED


def test_with_loss_scaling_single_overflows_are_part_of_it():
    guard = LossGuard(GUESSING, scales_loss=True)
    for step in range(20):
        guard.check_step(step, 2.0, math.inf)
    guard.check_step(20, 2.0, 1.0)
    for step in range(20):
        guard.check_step(step, 2.0, math.inf)
    assert ends(lambda: guard.check_step(21, 2.0, math.inf)) == ExitCode.DIVERGED


def test_a_gradient_of_exactly_zero_is_an_error_of_the_set_up():
    assert ends(lambda: LossGuard(GUESSING).check_step(1, 2.0, 0.0)) == ExitCode.INTERNAL_ERROR


@pytest.mark.parametrize(
    ("base", "training", "evaluated", "lost"),
    [
        (2.0, 9.0, 9.0, True),  # ruined
        (2.0, 0.1, 9.0, False),  # memorizes
        (2.0, 2.5, 2.9, False),  # worse, within a nat
        (0.1, 0.9, 1.0, False),  # noise about little
        (8.0, 9.0, 11.0, False),  # a base that knows nothing
        (2.0, 1.0, math.nan, True),
    ],
)
def test_an_evaluation_shows_a_ruined_model(base, training, evaluated, lost):
    guard = LossGuard(GUESSING)
    guard.check_evaluation(0, base)
    for step in range(1, 11):
        guard.check_step(step, training, 1.0)
    if lost:
        assert ends(lambda: guard.check_evaluation(10, evaluated)) == ExitCode.DIVERGED
    else:
        guard.check_evaluation(10, evaluated)
