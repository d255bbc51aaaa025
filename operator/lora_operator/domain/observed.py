"""What one pass saw of a job and its children: a frozen snapshot, and all that a decision may look at.

No raw Kubernetes object gets further than this: `reading.py` makes these from JSON. Nothing here decides.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from lora_api.lorajob import LoRAJobSpec
from lora_api.lorajob_status import LoRAJobStatus
from lora_api.messages import Progress

Document = dict[str, Any]
"""A Kubernetes object as JSON."""


class Stage(StrEnum):
    """What a Job of ours does; also the subcommand of the trainer."""

    PREFLIGHT = "preflight"
    TRAIN = "train"


@dataclass(frozen=True, slots=True)
class ObservedJob:
    """The LoRAJob itself."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec: LoRAJobSpec | None
    """None when it does not parse; `spec_error` then says why."""
    spec_error: str = ""
    deleting: bool = False
    status: LoRAJobStatus = field(default_factory=LoRAJobStatus)

    @property
    def run(self) -> int:
        """Number of the current run; a job that is not accepted yet is about to have its first."""
        return self.status.run or 1


class Ownership(StrEnum):
    """Whose an object is."""

    OURS = "Ours"
    LEFTOVER = "Leftover"
    """Being deleted, or of an earlier LoRAJob of the same name: it will go by itself."""
    FOREIGN = "Foreign"


@dataclass(frozen=True, slots=True)
class Child:
    """An object at one of our deterministic names."""

    kind: str
    name: str
    ownership: Ownership


@dataclass(frozen=True, slots=True)
class ContainerEnd:
    """How the trainer container ended."""

    exit_code: int
    reason: str = ""
    """The kubelet's word, such as OOMKilled or Error."""
    message: str = ""
    """The termination message, as it was left."""


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod of a Job."""

    name: str
    uid: str
    created: str
    """Creation time as text, which sorts by time."""
    phase: str = "Pending"
    node: str = ""
    ip: str = ""
    unschedulable: str = ""
    """The scheduler's message while it finds no node."""
    waiting_reason: str = ""
    waiting_message: str = ""
    running: bool = False
    end: ContainerEnd | None = None
    lost_reason: str = ""
    """Why the pod as a whole failed, such as Evicted or NodeLost."""
    lost_message: str = ""
    disrupted: bool = False
    """The cluster took the pod away: the pod has the condition DisruptionTarget."""


@dataclass(frozen=True, slots=True)
class WorkView:
    """One Job of ours and its pods, oldest first."""

    child: Child
    uid: str
    complete: bool = False
    failed: bool = False
    failed_reason: str = ""
    failed_message: str = ""
    failures: int = 0
    """Failed pods that count, as the Job controller counts them."""
    retries: int = 0
    """`backoffLimit`: failures after which the Job controller still makes another pod."""
    pods: tuple[PodView, ...] = ()
    failed_create: str = ""
    """Newest message of the Job controller that it could not create a pod; read only while there is no pod."""

    @property
    def newest(self) -> PodView | None:
        """The pod of the current attempt."""
        return self.pods[-1] if self.pods else None


@dataclass(frozen=True, slots=True)
class AdapterView:
    """A LoRAAdapter of the name that the job would use."""

    name: str
    job_label: str
    uri: str
    digest: str


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that a decision about one job depends on."""

    job: ObservedJob
    config_map: Child | None = None
    preflight: WorkView | None = None
    train: WorkView | None = None
    adapter: AdapterView | None = None
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class ObservedAdapter:
    """A LoRAAdapter, as its own reconciler sees it. Only `status` is written."""

    namespace: str
    name: str
    uid: str
    generation: int
    uri: str
    digest: str
    status: Document
