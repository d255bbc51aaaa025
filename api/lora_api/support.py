"""What this release does not do yet, though the API has the word for it.

A field without its behaviour is refused with a condition that names it; to ignore it would be to train something else
than what was asked. Operator and trainer both ask here, so a laptop refuses what the cluster refuses. Delete a line
when its behaviour is there.
"""

from collections.abc import Callable
from typing import NamedTuple

from lora_api.lorajob import DeletionPolicy, FailurePolicy, LoRAJobSpec


class Unsupported(NamedTuple):
    """One field that asks for what is not there yet."""

    field: str
    value: str
    fix: str

    def __str__(self) -> str:
        return f"{self.field}: {self.value} is not supported yet; {self.fix}"


def unsupported_fields(spec: LoRAJobSpec) -> list[Unsupported]:
    """Return every field of the spec that this release refuses, in the order of the table."""
    return [
        Unsupported(field, _show(value), fix)
        for field, read, allowed, fix in _TABLE
        if not allowed(value := read(spec))
    ]


def _show(value: object) -> str:
    text = str(getattr(value, "value", value))
    return text if len(text) <= 60 else text[:59] + "…"


_Read = Callable[[LoRAJobSpec], object]
_Allowed = Callable[[object], bool]


def _is(expected: object) -> _Allowed:
    return lambda value: value == expected


_TABLE: tuple[tuple[str, _Read, _Allowed, str], ...] = (
    ("spec.resources.nodes", lambda s: s.resources.nodes, _is(1), "use 1"),
    ("spec.scheduling.queueName", lambda s: s.scheduling.queue_name, _is(None), "remove it"),
    ("spec.suspend", lambda s: s.suspend, _is(False), "remove it"),
    ("spec.failurePolicy.maxDisruptions", lambda s: s.failure_policy.max_disruptions, _is(FailurePolicy().max_disruptions), "remove it"),
    ("spec.failurePolicy.activeDeadlineSeconds", lambda s: s.failure_policy.active_deadline_seconds, _is(None), "remove it"),
    ("spec.ttlSecondsAfterFinished", lambda s: s.ttl_seconds_after_finished, _is(None), "remove it"),
    ("spec.deletionPolicy", lambda s: s.deletion_policy, _is(DeletionPolicy.RETAIN), "use Retain"),
)  # fmt: skip
