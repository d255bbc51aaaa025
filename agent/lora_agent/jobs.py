"""What is under way for one adapter, and whether it is still what is wanted. It starts and ends nothing."""

import asyncio
from dataclasses import dataclass

from lora_agent.reporting import Activity
from lora_agent.slot import Slot, origin


@dataclass(frozen=True, slots=True)
class Job:
    """What is being done for one adapter."""

    activity: Activity
    task: asyncio.Task[None]
    slot: Slot
    """As it was at the start."""


def is_same_work(job: Job, slot: Slot) -> bool:
    """Return whether a slot still wants what a job was started for."""
    if job.activity is Activity.DOWNLOADING:
        return origin(slot.wanted) == origin(job.slot.wanted) and slot.target == job.slot.target
    return slot.wanted == job.slot.wanted
