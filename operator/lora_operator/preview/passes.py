"""Plays the passes over a LoRAJob until its training Job is made, with a cluster in which all goes well: pure.

Every object comes out of `domain.plan.plan`, the decision of a reconcile pass. What a cluster would add to an object
is read back through `domain.reading`, as the operator reads it.
"""

from dataclasses import replace
from datetime import datetime
from typing import Final

from lora_api.names import ARTIFACTS_FINALIZER, STAGE_LABEL
from lora_operator.domain.observed import Document, Observed, ObservedJob, Stage
from lora_operator.domain.plan import Plan, plan
from lora_operator.domain.reading import read_child, read_work
from lora_operator.domain.settings import Settings

_MOST_PASSES: Final = 20
"""A run needs three; one that makes way for another needs five."""
_COMPLETE: Final = {"conditions": [{"type": "Complete", "status": "True"}]}


def objects_of(job: ObservedJob, settings: Settings, now: datetime) -> list[Document]:
    """Return what the operator would create for a job up to its training, each before the ones that need it."""
    observed, made = Observed(job), list[Document]()
    for _ in range(_MOST_PASSES):
        planned = plan(observed, settings, now)
        made += planned.create
        if any(_stage(each) == Stage.TRAIN for each in planned.create) or not _changes(planned):
            return made
        observed = _after(observed, planned)
    raise RuntimeError(f"the passes over {job.namespace}/{job.name} come to no end")


def _changes(planned: Plan) -> bool:
    return bool(planned.create) or planned.status is not None or planned.guard is not None


def _after(observed: Observed, planned: Plan) -> Observed:
    """Return what the next pass sees: the status as it was written, and objects that have done what they are for."""
    job = observed.job if planned.status is None else replace(observed.job, status=planned.status)
    if planned.guard is not None:
        job = replace(job, finalizers=(ARTIFACTS_FINALIZER,) if planned.guard else ())
    observed = replace(observed, job=job)
    for document in planned.create:
        observed = _seen(observed, document)
    return observed


def _seen(observed: Observed, document: Document) -> Observed:
    name = document["metadata"]["name"]
    there = document | {"metadata": document["metadata"] | {"uid": f"uid-of-{name}"}}
    if document["kind"] == "Service":
        return replace(observed, service=read_child(there, observed.job))
    work = read_work(there | {"status": _COMPLETE}, observed.job, [])
    return replace(observed, preflight=work)  # with the training Job the play ends


def _stage(document: Document) -> str | None:
    stage: str | None = document["metadata"]["labels"].get(STAGE_LABEL)
    return stage
