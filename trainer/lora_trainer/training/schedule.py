"""The learning rate over the steps, as a share of its peak.

Pure. Written out here because the parent's warm-up starts at zero, so the first of 30 steps would learn nothing.
"""

import math

from lora_api.training import Scheduler

_MINIMUM_SHARE = 0.1
"""Where the cosine ends."""


def rate_share(scheduler: Scheduler, step: int, warmup: int, total: int) -> float:
    """Return the share of the peak learning rate in a step (from 0) of `total`, after `warmup` rising steps."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    if scheduler is Scheduler.COSINE:
        return _MINIMUM_SHARE + (1 - _MINIMUM_SHARE) * (1 + math.cos(math.pi * done)) / 2
    return 1 - done if scheduler is Scheduler.LINEAR else 1.0
