"""What the benchmark asks of an operator: to start, to end, to say which requests are its own and how its jobs fare."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bench.operator.audit import Request
from bench.operator.process import Process

Document = dict[str, Any]
IMAGE = "trainer.example/trainer:1.0"
"""Of all training pods. Nobody pulls it: the nodes are fake."""


@dataclass(frozen=True)
class Kind:
    """What the jobs of a measurement look like."""

    short: bool = False
    """Whether pods end after a short time; else they run until they are deleted."""
    preflight: bool = False
    """With a preflight, which only ours has."""
    adapter: bool = True
    """Whether a LoRAAdapter is made, which only ours can."""


class Contender(Protocol):
    """An operator under measurement."""

    name: str
    short_name: str
    """Begins the names of its namespaces."""
    users: frozenset[str]
    """Users of its processes, as the audit log names them."""
    resource: str
    """API path of its jobs below the namespace: group, version and plural."""
    running_resource: str
    """API path of the objects that say whether a job's pod runs: the jobs themselves, if they tell."""
    left_resources: Sequence[str]
    """API paths of what outlives a job."""
    processes: Sequence[Process]
    has_preflight: bool

    async def start(self) -> None:
        """Start it, and return when it is ready."""

    def stop(self) -> None:
        """End it in order."""

    def kill(self) -> None:
        """End it as a lost node would."""

    async def is_in_sync(self, jobs: int) -> bool:
        """Return whether it has looked at so many jobs since its start, and has nothing left to do."""

    def job(self, name: str, kind: Kind) -> Document:
        """Return the job of a name."""

    def is_running(self, document: Document) -> bool:
        """Return whether an object says that the pod of its job runs."""

    def is_done(self, job: Document) -> bool:
        """Return whether a job has ended well, with everything that belongs to it."""


def owner_of(request: Request) -> str:
    """Return the job that a child belongs to: names of jobs have no dash, and names of children begin with them."""
    return request.name.partition("-")[0]


def condition(job: Document, kind: str) -> str:
    """Return the status of a condition."""
    conditions = (job.get("status") or {}).get("conditions") or []
    return next((str(each["status"]) for each in conditions if each["type"] == kind), "Unknown")


def collection(resource: str, namespace: str | None = None) -> str:
    """Return the path of all jobs, or of those of a namespace."""
    group, _, plural = resource.rpartition("/")
    return f"{group}/namespaces/{namespace}/{plural}" if namespace else resource
