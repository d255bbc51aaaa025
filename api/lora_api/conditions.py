"""Conditions as Kubernetes defines them, and the one way to set one.

A condition is an observation with a reason. Its transition time changes only with its status, so that "since when" is
worth reading.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from lora_api.base import StatusModel

ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(StatusModel):
    """One entry of `status.conditions`, as in metav1.Condition."""

    type: Annotated[str, Field(min_length=1, max_length=63)]
    """Type of the condition."""
    status: ConditionStatus
    """True, False or Unknown."""
    observed_generation: Annotated[int, Field(ge=0)]
    """Generation of the object that the condition speaks of."""
    last_transition_time: datetime
    """When the status changed last."""
    reason: Annotated[str, Field(min_length=1, max_length=63)]
    """Why, in one CamelCase word."""
    message: Annotated[str, Field(max_length=2048)] = ""
    """Why, in a sentence for people."""


ConditionList = Annotated[
    list[Condition],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]
"""`status.conditions`: one entry a type, which several writers can own by server-side apply."""


def set_condition(conditions: Iterable[Condition], new: Condition) -> tuple[Condition, ...]:
    """Return the conditions with `new` in place of the one of its type.

    A condition that was not there is added at the end. One with the same status keeps its transition time; one with
    another status takes the new time.
    """
    before = tuple(conditions)
    previous = find_condition(before, new.type)
    if previous is None:
        return (*before, new)
    if previous.status == new.status:
        new = new.model_copy(update={"last_transition_time": previous.last_transition_time})
    return tuple(new if each.type == new.type else each for each in before)


def find_condition(conditions: Iterable[Condition], condition_type: str) -> Condition | None:
    """Return the condition of a type, or None."""
    return next((each for each in conditions if each.type == condition_type), None)


def is_true(conditions: Iterable[Condition], condition_type: str) -> bool:
    """Return whether the condition of a type is there and True."""
    found = find_condition(conditions, condition_type)
    return found is not None and found.status == "True"


def whole_seconds(now: datetime) -> datetime:
    """Return a time in whole seconds, as Kubernetes writes it; otherwise every read would look like a change."""
    return now.replace(microsecond=0)
