"""Batches and steps: the effective batch is exactly what was asked for."""

from types import SimpleNamespace

import pytest

from lora_api.training import (
    ActivationCheckpointing,
    Distribution,
    Objective,
    Quantization,
    Scheduler,
    Training,
)
from lora_trainer.model.estimate import estimate_memory
from lora_trainer.training.plan import (
    choose_plan,
    evaluation_interval,
    fit_plan,
    halved,
    micro_batch_size,
    total_steps,
    total_tokens,
    warmup_steps,
)
from lora_trainer.training.schedule import rate_share

GIB = 2**30
LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}


def spec(gpus=1, nodes=1, objective=Objective.SFT, quantization=None, **training):
    """The parts of a job that a plan depends on."""
    return SimpleNamespace(
        training=Training(**training),
        resources=SimpleNamespace(gpus=gpus, nodes=nodes),
        objective=objective,
        quantization=quantization,
    )


def fitted(memory, job=None, length=4096):
    """The plan of an 8B model in bfloat16 for devices of so many GiB: rows, checkpointing, sharded; and its tokens."""
    job = job or spec(effective_batch_size=16)
    pairs = 2 if job.objective is Objective.DPO else 1
    devices = job.resources.gpus * job.resources.nodes
    first = choose_plan(job.training, 1000, length, gpu=True, sequences=pairs, devices=devices)
    resolved = SimpleNamespace(plan=first, parameters=8_030_261_248, trainable_parameters=41_943_040)
    plan = fit_plan(resolved, LLAMA_8B, job, 2, None if memory is None else memory * GIB)
    assert plan.micro_batch_size * plan.accumulation_steps == job.training.effective_batch_size
    assert plan.total_steps == first.total_steps
    return plan


def shape(plan):
    return plan.micro_batch_size, plan.activation_checkpointing, plan.sharded


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


@pytest.mark.parametrize(
    ("memory", "shape_of_plan"),
    [
        (None, (2, False, False)),  # a CPU
        (141, (2, False, False)),
        (80, (2, False, False)),
        (48, (2, True, False)),  # checkpointing before the micro-batch falls below 8k tokens
        (24, (2, True, False)),
        (20, (1, True, False)),
        (16, (1, True, False)),  # fits nowhere: the smallest, which may run out of memory or not
    ],
)
def test_a_plan_is_fitted_by_what_costs_least_first(memory, shape_of_plan):
    assert shape(fitted(memory)) == shape_of_plan


def test_a_large_micro_batch_is_halved_before_activations_are_recomputed():
    job = spec(effective_batch_size=16)
    large = choose_plan(job.training, 1000, 4096, gpu=True).model_copy(
        update={"micro_batch_size": 8, "accumulation_steps": 2}
    )
    resolved = SimpleNamespace(plan=large, parameters=8_030_261_248, trainable_parameters=41_943_040)
    assert shape(fit_plan(resolved, LLAMA_8B, job, 2, 80 * GIB)) == (2, False, False)
    assert shape(fit_plan(resolved, LLAMA_8B, job, 2, 48 * GIB)) == (2, True, False)


@pytest.mark.parametrize(
    ("asked", "memory", "shape_of_plan"),
    [
        (ActivationCheckpointing.ALWAYS, 141, (2, True, False)),
        (ActivationCheckpointing.ALWAYS, None, (2, True, False)),
        (ActivationCheckpointing.NEVER, 48, (1, False, False)),
    ],
)
def test_checkpointing_that_is_asked_for_or_forbidden_is_obeyed(asked, memory, shape_of_plan):
    job = spec(effective_batch_size=16, activation_checkpointing=asked)
    assert shape(fitted(memory, job)) == shape_of_plan


@pytest.mark.parametrize(
    ("job", "memory", "sharded"),
    [
        (spec(gpus=4), 80, False),  # a copy fits each device
        (spec(gpus=4), 16, True),
        (spec(nodes=2), 16, True),
        (spec(gpus=1), 16, False),
        (spec(gpus=4, distribution=Distribution.REPLICATED), 16, False),
        (spec(gpus=4, distribution=Distribution.SHARDED), 80, True),
        (spec(gpus=1, distribution=Distribution.SHARDED), 80, False),
        (spec(gpus=4, quantization=Quantization()), 16, False),
    ],
)
def test_the_base_is_sharded_where_it_is_asked_for_or_leaves_no_room(job, memory, sharded):
    assert fitted(memory, job, length=1024).sharded is sharded


def test_what_is_fitted_is_within_nine_tenths_of_the_memory():
    for memory in (24, 32, 40, 48, 80, 96):
        estimate = estimate_memory(LLAMA_8B, 8_030_261_248, 41_943_040, fitted(memory), 2)
        assert estimate.total <= 0.9 * memory * GIB


def test_a_preference_pair_counts_as_two_rows():
    assert fitted(None, spec(objective=Objective.DPO)).micro_batch_size == 1
    assert fitted(None, spec()).micro_batch_size == 2


@pytest.mark.parametrize(
    ("packable", "asked", "packing"),
    [(True, None, True), (True, True, True), (True, False, False), (False, None, False), (False, True, False)],
)
def test_rows_are_packed_where_the_task_allows_it_and_nobody_forbids_it(packable, asked, packing):
    assert choose_plan(Training(packing=asked), 100, 64, gpu=False, packable=packable).packing is packing


@pytest.mark.parametrize(
    ("training", "tokens"),
    [(Training(), 2000), (Training(epochs=0.5), 500), (Training(max_steps=20), 2000), (Training(max_steps=1), 100)],
)
def test_the_tokens_of_a_run_follow_from_those_of_an_epoch(training, tokens):
    assert total_tokens(training, 160, 1000) == tokens
