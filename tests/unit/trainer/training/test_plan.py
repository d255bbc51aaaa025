"""Batches and steps: the effective batch is exactly what was asked for."""

import pytest

from lora_api.training import Scheduler, Training
from lora_trainer.training.plan import (
    choose_plan,
    evaluation_interval,
    halved,
    micro_batch_size,
    total_steps,
    warmup_steps,
)
from lora_trainer.training.schedule import rate_share


@pytest.mark.parametrize("effective", [1, 2, 7, 12, 16, 30, 64, 1000])
@pytest.mark.parametrize("length", [16, 128, 1000, 4096, 100_000])
def test_micro_batch_times_accumulation_is_the_effective_batch(effective, length):
    plan = choose_plan(Training(effective_batch_size=effective), 100, length, gpu=True)
    assert plan.micro_batch_size * plan.accumulation_steps == effective


@pytest.mark.parametrize(
    ("effective", "length", "budget", "micro"),
    [(16, 128, 1024, 8), (16, 4096, 1024, 1), (12, 100, 1024, 6), (7, 1, 6, 1)],
)
def test_the_micro_batch_is_the_largest_divisor_within_the_token_budget(effective, length, budget, micro):
    assert micro_batch_size(effective, length, budget) == micro


@pytest.mark.parametrize(
    ("training", "rows", "steps"),
    [
        (Training(), 160, 20),  # two epochs by default
        (Training(), 161, 22),  # a part of a batch is a step
        (Training(epochs=0.5), 160, 5),
        (Training(epochs=0.01), 16, 1),
        (Training(max_steps=7), 160, 7),
        (Training(effective_batch_size=1000), 3, 2),
    ],
)
def test_steps(training, rows, steps):
    assert total_steps(training, rows) == steps


def test_halving_keeps_the_effective_batch_down_to_one_row():
    plan, sizes = choose_plan(Training(effective_batch_size=12), 100, 16, gpu=True), []
    while plan is not None:
        sizes.append((plan.micro_batch_size, plan.accumulation_steps))
        plan = halved(plan)
    assert sizes == [(12, 1), (6, 2), (3, 4), (1, 12)]


@pytest.mark.parametrize("steps", [1, 5, 10, 11, 30, 999])
def test_there_are_at_most_ten_evaluations(steps):
    assert steps // evaluation_interval(steps) <= 10


def test_the_learning_rate_rises_from_the_first_step_and_falls_to_a_tenth():
    total = 100
    warmup = warmup_steps(Training(), total)
    shares = [rate_share(Scheduler.COSINE, step, warmup, total) for step in range(total + 1)]
    assert shares[0] == pytest.approx(1 / 3)
    assert max(shares) == shares[2] == shares[3] == 1.0
    assert shares[3:] == sorted(shares[3:], reverse=True)
    assert shares[-1] == pytest.approx(0.1)


@pytest.mark.parametrize(("scheduler", "last"), [(Scheduler.LINEAR, 0.0), (Scheduler.CONSTANT, 1.0)])
def test_the_other_schedules(scheduler, last):
    assert rate_share(scheduler, 0, 0, 10) == 1.0
    assert rate_share(scheduler, 10, 0, 10) == last


def test_a_run_of_one_step_learns_at_the_full_rate():
    assert rate_share(Scheduler.COSINE, 0, warmup_steps(Training(), 1), 1) == 1.0
