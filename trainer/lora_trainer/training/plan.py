"""The batches: micro-batch times accumulation is exactly the batch that was asked for, and the steps follow.

Pure arithmetic. The same numbers come out of a preflight and of a training, on whatever machine.
"""

import math

from lora_api.messages import Plan
from lora_api.training import Training

DEFAULT_EPOCHS = 2.0

# Tokens a device computes at once. A GPU is busy from about 8,000 on; a CPU from a few hundred, and memory is dearer
# there than the batch is worth.
GPU_TOKEN_BUDGET = 8192
CPU_TOKEN_BUDGET = 1024


def choose_plan(training: Training, rows: int, max_length: int, *, gpu: bool) -> Plan:
    """Return the plan for `rows` rows of at most `max_length` tokens."""
    micro = micro_batch_size(training.effective_batch_size, max_length, GPU_TOKEN_BUDGET if gpu else CPU_TOKEN_BUDGET)
    return Plan(
        micro_batch_size=micro,
        accumulation_steps=training.effective_batch_size // micro,
        max_length=max_length,
        total_steps=total_steps(training, rows),
    )


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
