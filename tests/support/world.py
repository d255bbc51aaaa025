"""A cluster made of values: plays plans against a snapshot, so that decisions are tested without any cluster."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lora_api.conditions import Condition, find_condition
from lora_api.messages import Progress, TerminationMessage
from lora_api.names import ARTIFACTS_FINALIZER
from lora_operator.domain.observed import (
    AdapterView,
    ContainerEnd,
    Observed,
    ObservedJob,
    Ownership,
    PodView,
    Stage,
    WorkView,
)
from lora_operator.domain.plan import Plan, plan
from lora_operator.domain.reading import read_adapter_view, read_child, read_job, read_status, read_work
from lora_operator.domain.settings import Settings
from lora_operator.domain.steps import Deletion
from support.samples import PREFLIGHT_DONE, TRAIN_DONE, lorajob

SETTINGS = Settings(trainer_image="trainer.example/trainer:1.0")
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
UID = "11111111-2222-3333-4444-555555555555"


def read_lorajob(document: dict[str, Any], generation: int = 1) -> ObservedJob:
    """Return the LoRAJob of a manifest, as the API server would give it back."""
    metadata = {"namespace": "team-a", "uid": UID, "generation": generation}
    return read_job(document | {"metadata": metadata | document["metadata"]})


def pod(number: int = 1, **state: Any) -> PodView:
    """Return a pod of a Job that is scheduled, unless it is said otherwise."""
    defaults = {"name": f"pod-{number}", "uid": f"pod-{number}", "created": f"2026-01-02T03:{number:02d}:00Z"}
    return PodView(**({"node": "node-1", "ip": "10.0.0.1"} | defaults | state))


def running(number: int = 1) -> PodView:
    """Return a pod whose container runs."""
    return pod(number, phase="Running", running=True)


def waiting(reason: str, message: str = "") -> PodView:
    """Return a pod whose container cannot start."""
    return pod(waiting_reason=reason, waiting_message=message)


def ended(exit_code: int, message: TerminationMessage | str = "", reason: str = "", number: int = 1) -> PodView:
    """Return a pod whose container has ended."""
    text = message if isinstance(message, str) else message.encode().decode()
    phase = "Succeeded" if exit_code == 0 else "Failed"
    return pod(number, phase=phase, end=ContainerEnd(exit_code, reason, text))


@dataclass
class World:
    """A LoRAJob and what has become of it."""

    observed: Observed
    now: datetime = START
    applied: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Every object that was applied, by kind and name."""
    told: list[str] = field(default_factory=list)
    """Reasons of all events."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    deleted: list[str] = field(default_factory=list)
    """Every object that was deleted, by kind and name."""

    @classmethod
    def of(cls, document: dict[str, Any] | None = None, **spec: Any) -> "World":
        """Return the world of a new job."""
        return cls(Observed(read_lorajob(document or lorajob(**spec))))

    @property
    def job(self) -> ObservedJob:
        """The LoRAJob."""
        return self.observed.job

    def condition(self, kind: str) -> Condition | None:
        """Return a condition of the job."""
        return find_condition(self.job.status.conditions, kind)

    def see(self, **changes: Any) -> "World":
        """Change what is observed."""
        self.observed = replace(self.observed, **changes)
        return self

    def edit(self, **spec: Any) -> "World":
        """Change the spec, as a user does."""
        edited = read_lorajob(lorajob(self.job.name, **spec), self.job.generation + 1)
        kept = {name: getattr(self.job, name) for name in ("status", "finalizers", "deleting", "restart")}
        return self.see(job=replace(edited, **kept))

    def see_work(self, stage: Stage, *pods: PodView, **changes: Any) -> "World":
        """Change what is observed of a Job."""
        work: WorkView | None = getattr(self.observed, stage.value)
        assert work is not None, f"there is no {stage} Job"
        return self.see(**{stage.value: replace(work, pods=pods, **changes)})

    def step(self) -> Plan:
        """Make one pass, and let its writes happen."""
        made = plan(self.observed, SETTINGS, self.now)
        self.now += timedelta(seconds=1)
        for each in made.delete:
            self._delete(each)
        for document in (*made.create, *made.apply):
            self._apply(document)
        if made.status is not None:
            written = read_status(made.status.wire())
            assert written == made.status, "a status must read back as it was written"
            self.see(job=replace(self.job, status=written))
        if made.guard is not None:
            self.see(job=replace(self.job, finalizers=(ARTIFACTS_FINALIZER,) if made.guard else ()))
        self.told += [event.reason for event in made.events]
        return made

    def settle(self) -> "World":
        """Make passes until there is nothing left to write."""
        for _ in range(10):
            made = self.step()
            if not writes(made):
                return self
        raise AssertionError(f"never settles: {made}")

    def _apply(self, document: dict[str, Any]) -> None:
        kind, name = document["kind"], document["metadata"]["name"]
        self.applied[f"{kind}/{name}"] = document
        if kind == "LoRAAdapter":
            self.see(adapter=read_adapter_view(document))
            return
        made = document | {"metadata": document["metadata"] | {"uid": f"uid-{next(self._numbers)}-of-{name}"}}
        if kind == "Service":
            assert self.observed.service is None, "a Service is created once"
            self.see(service=read_child(made, self.job))
            return
        stage = document["metadata"]["labels"]["lora-operator.io/stage"]
        assert getattr(self.observed, stage) is None, "a Job is created once"
        self.see(**{stage: read_work(made, self.job, [])})

    def _delete(self, deletion: Deletion) -> None:
        """Let an object be on its way out; `gone()` lets it go."""
        assert deletion.why, "nothing is deleted without a reason"
        self.deleted.append(f"{deletion.kind}/{deletion.name}")
        if deletion.kind == "LoRAAdapter":
            self.see(adapter=None)
        elif deletion.kind == "Service":
            self.see(service=None)
        else:
            stage, work = self._work_of(deletion)
            self.see(**{stage: replace(work, child=replace(work.child, ownership=Ownership.GOING))})

    def _work_of(self, deletion: Deletion) -> tuple[str, WorkView]:
        works = {stage.value: getattr(self.observed, stage.value) for stage in Stage}
        found = [(stage, work) for stage, work in works.items() if work and work.child.name == deletion.name]
        assert found, f"deletes {deletion.name}, which is not there"
        assert found[0][1].child.uid == deletion.uid
        return found[0]

    def gone(self) -> "World":
        """Let everything that is on its way out be gone, as when the last pods have ended."""
        works = {stage.value: getattr(self.observed, stage.value) for stage in Stage}
        going = [stage for stage, work in works.items() if work and work.child.ownership is Ownership.GOING]
        return self.see(**dict.fromkeys(going))


def writes(made: Plan) -> bool:
    """Return whether a plan writes anything."""
    return bool(made.create or made.apply or made.delete or made.events) or made.status is not None


def accepted(**spec: Any) -> World:
    """Return a job whose preflight Job exists."""
    return World.of(**spec).settle()


def preflight_passed(**spec: Any) -> World:
    """Return a job whose training Job exists."""
    world = accepted(**spec)
    return world.see_work(Stage.PREFLIGHT, ended(0, PREFLIGHT_DONE), complete=True).settle()


def training(**spec: Any) -> World:
    """Return a job that trains."""
    world = preflight_passed(**spec).see_work(Stage.TRAIN, running())
    return world.see(progress=Progress(step=10, total_steps=118, percent=8.5, loss=1.5)).settle()


def succeeded(**spec: Any) -> World:
    """Return a job that has succeeded."""
    return training(**spec).see_work(Stage.TRAIN, ended(0, TRAIN_DONE), complete=True).settle()


def adapter_of(job: str, digest: str = "sha256:" + "00" * 32) -> AdapterView:
    """Return a LoRAAdapter that another job, or nobody, made."""
    return AdapterView(name="support-bot", job_label=job, uri="s3://elsewhere/a", digest=digest)
