"""What a step of a pass may look at, and what it answers. Values only; the steps themselves are elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass

from lora_api.artifacts import ArtifactLayout
from lora_api.lorajob import LoRAJobSpec
from lora_api.lorajob_status import Failure
from lora_operator.domain.errors import Stall
from lora_operator.domain.observed import Child, Document, Observed, ObservedJob
from lora_operator.domain.settings import Settings
from lora_operator.domain.status import Draft


@dataclass(frozen=True, slots=True)
class Deletion:
    """One object to delete. The uid keeps a younger object of the same name safe."""

    kind: str
    name: str
    uid: str
    why: str
    """For the log: nothing is deleted without a reason."""


@dataclass(frozen=True, slots=True)
class Context:
    """What every step may look at."""

    observed: Observed
    settings: Settings
    spec: LoRAJobSpec | None
    """The spec to create objects from; None when there is none that may be followed, and then nothing is created."""

    @property
    def job(self) -> ObservedJob:
        """The LoRAJob."""
        return self.observed.job

    @property
    def layout(self) -> ArtifactLayout:
        """Where the artifacts of the run lie."""
        job = self.job
        output = job.spec.output.uri if job.spec else "the output folder"
        return ArtifactLayout(output_uri=output, namespace=job.namespace, name=job.name, run=job.run)


@dataclass(frozen=True, slots=True)
class Step:
    """Where a step leaves the pass."""

    draft: Draft
    delete: tuple[Deletion, ...] = ()
    create: tuple[Document, ...] = ()
    """Objects that are not there. If one is there all the same, the whole pass is made again."""
    apply: tuple[Document, ...] = ()
    stall: Stall | None = None
    notice: Failure | None = None
    """What keeps the run waiting though nobody may have to act, such as a full cluster."""
    requeue_after: float | None = None
    go_on: bool = False
    """Whether the next step may follow."""
    guard: bool | None = None
    """True puts our finalizer on the LoRAJob, False takes it off."""


Take = Callable[[Context, Draft], Step]
"""One step: looks at what is there and returns where that leaves the pass. It remembers nothing."""


def walk(steps: tuple[Take, ...], context: Context, first: Step) -> Step:
    """Take the steps in order until one says that the next cannot follow, and return all that they want together."""
    total = first
    for take in steps:
        if not total.go_on:
            break
        total = _join(total, take(context, total.draft))
    return total


def _join(before: Step, after: Step) -> Step:
    """Return both as one: the writes of both, the later draft, and the earlier of two times to come back."""
    times = [each for each in (before.requeue_after, after.requeue_after) if each is not None]
    return Step(
        draft=after.draft,
        delete=before.delete + after.delete,
        create=before.create + after.create,
        apply=before.apply + after.apply,
        stall=after.stall or before.stall,
        notice=after.notice or before.notice,
        requeue_after=min(times, default=None),
        go_on=after.go_on,
        guard=before.guard if after.guard is None else after.guard,
    )


def delete_child(child: Child, why: str) -> Deletion:
    """Return the deletion of a child."""
    return Deletion(child.kind, child.name, child.uid, why)
