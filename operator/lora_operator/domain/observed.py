"""What one pass saw of a job and its children: a frozen snapshot, and all that a decision may look at.

No raw Kubernetes object gets further than this: `reading.py` makes these from JSON. Nothing here decides.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from lora_api.loraadapter import LoRAAdapterSpec, LoRAAdapterStatus
from lora_api.lorajob import LoRAJobSpec
from lora_api.lorajob_status import LoRAJobStatus
from lora_api.messages import Progress
from lora_api.names import ARTIFACTS_FINALIZER, UNLOAD_FINALIZER

Document = dict[str, Any]
"""A Kubernetes object as JSON."""


class Stage(StrEnum):
    """What a Job of ours does; also the subcommand of the trainer."""

    PREFLIGHT = "preflight"
    TRAIN = "train"
    CLEANUP = "cleanup"


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
    finalizers: tuple[str, ...] = ()
    version: str = ""
    """The resourceVersion, which makes sure that a change of the finalizers meets them as they were seen."""
    restart: str = ""
    """Value of the annotation by which a user asks for a new run."""
    created: datetime | None = None
    status: LoRAJobStatus = field(default_factory=LoRAJobStatus)

    @property
    def run(self) -> int:
        """Number of the current run; a job that is not accepted yet is about to have its first."""
        return self.status.run or 1

    @property
    def guarded(self) -> bool:
        """Whether our finalizer keeps the object until its artifacts are removed."""
        return ARTIFACTS_FINALIZER in self.finalizers


class Ownership(StrEnum):
    """Whose an object is."""

    OURS = "Ours"
    GOING = "Going"
    """Ours, and being deleted: its pods have not all ended yet."""
    LEFTOVER = "Leftover"
    """Of an earlier LoRAJob of the same name: it will go by itself."""
    FOREIGN = "Foreign"


@dataclass(frozen=True, slots=True)
class Child:
    """An object at one of our deterministic names."""

    kind: str
    name: str
    ownership: Ownership
    uid: str = ""
    run_digest: str = ""
    """Digest of the run that it was made for."""
    attempt_digest: str = ""
    """Digest of the fields that its pods are made of."""


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
    started: str = ""
    """When the trainer container began to run, as text; empty if it does not run."""
    end: ContainerEnd | None = None
    lost_reason: str = ""
    """Why the pod as a whole failed, such as Evicted or NodeLost."""
    lost_message: str = ""
    disrupted: bool = False
    """The cluster took the pod away: the pod has the condition DisruptionTarget."""
    disruption_reason: str = ""
    """Kubernetes' word for it, such as EvictionByEvictionAPI."""
    disruption_message: str = ""
    memory_limit: str = ""
    """Most memory that the trainer container may use."""
    index: int = 0
    """Number of the pod among those that train together."""


@dataclass(frozen=True, slots=True)
class WorkView:
    """One Job of ours and its pods, oldest first."""

    child: Child
    wanted: int = 1
    """Pods that are to run at the same time."""
    suspended: bool = False
    """Whether the Job may not start pods: Kueue has not admitted it, or has taken the admission back."""
    queue: str = ""
    """Kueue LocalQueue that decides so."""
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
    """Newest message of the Job controller that it could not create a pod; only while one is missing."""

    @property
    def newest(self) -> PodView | None:
        """The pod of the current attempt; of several that train together the first, which speaks for all."""
        return next((pod for pod in reversed(self.pods) if pod.index == 0), None)

    @property
    def lacks_pods(self) -> bool:
        """Whether a pod is missing that the Job controller should have made."""
        alive = [pod for pod in self.pods if pod.phase not in ("Failed", "Succeeded")]
        return len(alive) < self.wanted and not (self.complete or self.failed or self.suspended)

    @property
    def waits(self) -> bool:
        """Whether none of its pods does anything that would be lost."""
        return not (self.complete or self.failed or any(pod.running for pod in self.pods))


@dataclass(frozen=True, slots=True)
class WorkloadView:
    """What Kueue says about a training Job."""

    reason: str = ""
    """Kueue's word for why it waits, such as Pending or Preempted."""
    message: str = ""
    evicted: bool = False


@dataclass(frozen=True, slots=True)
class AdapterView:
    """A LoRAAdapter of the name that the job would use."""

    name: str
    job_label: str
    uri: str
    digest: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that a decision about one job depends on."""

    job: ObservedJob
    service: Child | None = None
    preflight: WorkView | None = None
    train: WorkView | None = None
    cleanup: WorkView | None = None
    workload: WorkloadView | None = None
    adapter: AdapterView | None = None
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class ObservedAdapter:
    """A LoRAAdapter, as its own reconciler sees it."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec: LoRAAdapterSpec | None
    """None when it cannot be read; `fault` says why."""
    status: LoRAAdapterStatus
    fault: str = ""
    finalizers: tuple[str, ...] = ()
    version: str = ""
    """The resourceVersion that was read."""
    deleting_since: datetime | None = None

    @property
    def guarded(self) -> bool:
        """Whether our finalizer is on it."""
        return UNLOAD_FINALIZER in self.finalizers
