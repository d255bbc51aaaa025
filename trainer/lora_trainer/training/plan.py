"""The batches: micro-batch times accumulation is exactly the batch that was asked for, and the steps follow.

Pure arithmetic. A preflight, which runs without the device, plans by budgets of tokens; the training, which sees the
device's memory, fits the plan to it. Neither changes what is learned: the effective batch and the steps stay.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from lora_api.lorajob import LoRAJobSpec
from lora_api.messages import Plan, Resolved
from lora_api.training import ActivationCheckpointing, Distribution, Objective, Training
from lora_trainer.model.estimate import estimate_memory

DEFAULT_EPOCHS = 2.0

# Tokens a device computes at once. A GPU is busy from about 8,000 on; a CPU from a few hundred, and memory is dearer
# there than the batch is worth.
GPU_TOKEN_BUDGET = 8192
CPU_TOKEN_BUDGET = 1024

_MEMORY_SHARE = 0.9
"""Of a device's memory that a plan may fill by the estimate; the rest is for the allocator's gaps."""


def choose_plan(
    training: Training,
    rows: int,
    max_length: int,
    *,
    gpu: bool,
    packable: bool = False,
    sequences: int = 1,
    devices: int = 1,
) -> Plan:
    """Return the plan for `rows` rows of at most `max_length` tokens, on devices whose memory is not known.

    `packable` is whether rows of the task may lie end to end; `sequences` is how many of `max_length` a row may have, 2
    for preference pairs; `devices` train together, on all nodes.
    """
    budget = GPU_TOKEN_BUDGET if gpu else CPU_TOKEN_BUDGET
    micro = micro_batch_size(training.effective_batch_size, sequences * max_length, budget)
    return Plan(
        micro_batch_size=micro,
        accumulation_steps=training.effective_batch_size // micro,
        max_length=max_length,
        total_steps=total_steps(training, rows),
        packing=packable and training.packing is not False,
        activation_checkpointing=training.activation_checkpointing is ActivationCheckpointing.ALWAYS,
        sharded=devices > 1 and training.distribution is Distribution.SHARDED,
    )


def fit_plan(
    resolved: Resolved, config: Mapping[str, Any], spec: LoRAJobSpec, bytes_per_value: int, memory: int | None
) -> Plan:
    """Return the plan, made smaller until its estimate fits a device with `memory` bytes, or None if that is not known.

    What costs least goes first: a smaller micro-batch as long as the device stays busy, then activation checkpointing,
    then a still smaller micro-batch. A base model that leaves no room is divided over the devices before all else.
    """
    if memory is None:
        return resolved.plan
    devices, sequences = devices_of(spec), sequences_of(spec)

    def fits(plan: Plan) -> bool:
        estimate = estimate_memory(
            config,
            resolved.parameters,
            resolved.trainable_parameters,
            plan,
            bytes_per_value,
            quantization=spec.quantization,
            sequences=sequences,
            devices=devices,
        )
        return estimate.total <= _MEMORY_SHARE * memory

    def is_small(plan: Plan) -> bool:
        return plan.micro_batch_size * sequences * plan.max_length <= GPU_TOKEN_BUDGET

    plan = _divided(resolved.plan, spec.training.distribution, devices, fits)
    plan = _halved_until(plan, lambda each: fits(each) or is_small(each))
    if not fits(plan) and spec.training.activation_checkpointing is ActivationCheckpointing.AUTO:
        plan = plan.model_copy(update={"activation_checkpointing": True})
    return _halved_until(plan, fits)


def devices_of(spec: LoRAJobSpec) -> int:
    """Return how many devices train together, at least 1."""
    return max(1, spec.resources.gpus) * spec.resources.nodes


def sequences_of(spec: LoRAJobSpec) -> int:
    """Return how many sequences of maxLength a row may have."""
    return 2 if spec.objective is Objective.DPO else 1


def micro_batch_size(effective: int, max_length: int, token_budget: int) -> int:
    """Return the largest divisor of the effective batch whose rows stay within the budget, at least 1."""
    fitting = (size for size in range(min(effective, token_budget // max_length), 0, -1) if effective % size == 0)
    return next(fitting, 1)


def total_steps(training: Training, rows: int) -> int:
    """Return the optimizer steps. The last step of an epoch takes what is left, so each row counts once an epoch."""
    if training.max_steps is not None:
        return training.max_steps
    epochs = DEFAULT_EPOCHS if training.epochs is None else training.epochs
    return max(1, math.ceil(epochs * math.ceil(rows / training.effective_batch_size)))


def total_tokens(training: Training, rows: int, tokens: int) -> int:
    """Return about how many tokens the whole run computes, of `tokens` in one epoch of `rows` rows."""
    steps_per_epoch = max(1, math.ceil(rows / training.effective_batch_size))
    return round(tokens * total_steps(training, rows) / steps_per_epoch)


def halved(plan: Plan) -> Plan | None:
    """Return the plan with a smaller micro-batch and the same effective batch, or None at the smallest."""
    effective = plan.micro_batch_size * plan.accumulation_steps
    smaller = next((size for size in range(plan.micro_batch_size // 2, 0, -1) if effective % size == 0), None)
    if smaller is None:
        return None
    return plan.model_copy(update={"micro_batch_size": smaller, "accumulation_steps": effective // smaller})


def evaluation_interval(steps: int) -> int:
    """Return the steps between evaluations: ten of them in a run, and never more."""
    return max(1, math.ceil(steps / 10))


def warmup_steps(training: Training, steps: int) -> int:
    """Return the steps in which the learning rate rises."""
    return math.ceil(training.warmup_ratio * steps)


def _divided(plan: Plan, wanted: Distribution, devices: int, fits: Callable[[Plan], bool]) -> Plan:
    """Return the plan with a sharded base, where that is left to us and one row does not fit beside a whole one."""
    smallest = {"micro_batch_size": 1, "activation_checkpointing": True}
    if devices == 1 or wanted is not Distribution.AUTO or fits(plan.model_copy(update=smallest)):
        return plan
    return plan.model_copy(update={"sharded": True})


def _halved_until(plan: Plan, enough: Callable[[Plan], bool]) -> Plan:
    while not enough(plan) and (smaller := halved(plan)) is not None:
        plan = smaller
    return plan
