"""What was collected about an object, and the form of an answer."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from lora_api.conditions import Condition

Document = dict[str, Any]


class Standing(StrEnum):
    """How an object stands, for the exit code and for people."""

    DONE = "Done"
    RUNNING = "Running"
    WAITING = "Waiting"
    TROUBLE = "Trouble"
    """It has failed, or does not go on without somebody: exit code 1, as of nothing else."""


@dataclass(frozen=True)
class Snapshot:
    """An object and what belongs to it, as the API server has them. What may not be read is empty, and named."""

    document: Document
    now: datetime
    jobs: tuple[Document, ...] = ()
    """Jobs of the current run, the preflight first."""
    pods: tuple[Document, ...] = ()
    """Of a LoRAJob the pods of the current run, oldest first; of a LoRAAdapter inference pods of its namespace."""
    events: tuple[Document, ...] = ()
    """About all of these, oldest first."""
    log: tuple[str, ...] = ()
    """Last lines of the newest pod."""
    unread: tuple[str, ...] = ()
    """What could not be read, and why."""

    @property
    def where(self) -> str:
        """The object as the arguments of a command that can be copied: `NAME -n NAMESPACE`."""
        meta = self.document["metadata"]
        return f"{meta['name']} -n {meta['namespace']}"


@dataclass(frozen=True)
class Verdict:
    """The answer: one sentence, and what to do."""

    standing: Standing
    reason: str
    sentence: str
    hint: str = ""


@dataclass(frozen=True)
class Explanation:
    """The verdict, and what it was read from."""

    name: str
    verdict: Verdict
    conditions: tuple[Condition, ...] = ()
    works: tuple[str, ...] = ()
    """A line for each Job and pod."""
    events: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    unread: tuple[str, ...] = field(default=())

    def as_json(self) -> Document:
        """Return the explanation as JSON values."""
        return {
            "name": self.name,
            "standing": self.verdict.standing.value,
            "reason": self.verdict.reason,
            "message": self.verdict.sentence,
            "hint": self.verdict.hint,
            "conditions": [each.wire() for each in self.conditions],
            "works": list(self.works),
            "events": list(self.events),
            "log": list(self.log),
            "unread": list(self.unread),
        }
