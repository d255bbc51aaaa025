"""Carries out a plan: finalizer and objects in their order, then the status, then the events. It decides nothing."""

from datetime import datetime

from lora_api.loraadapter import LoRAAdapterStatus
from lora_api.names import API_VERSION, ARTIFACTS_FINALIZER
from lora_operator.cluster.client import LORAJOBS, Client, resource_of
from lora_operator.domain.events import build_event
from lora_operator.domain.observed import Document, ObservedAdapter, ObservedJob
from lora_operator.domain.plan import Plan


async def execute(client: Client, job: ObservedJob, plan: Plan, now: datetime) -> None:
    """Write what the plan asks for. An event tells of what is written, so a failed write tells nothing."""
    if plan.guard:
        await _set_guard(client, job, on=True)
    for each in plan.delete:
        await client.delete(resource_of(each.kind), job.namespace, each.name, each.uid)
    for document in plan.create:
        await client.create(document)
    for document in plan.apply:
        await client.apply(document)
    if plan.status is not None:
        await client.apply_status(_with_status("LoRAJob", job, plan.status.wire()))
    run = (plan.status or job.status).run or 0
    for event in plan.events:
        await client.create_event(build_event(job, run, event, now))
    if plan.guard is False:
        await _set_guard(client, job, on=False)


async def write_adapter_status(client: Client, adapter: ObservedAdapter, status: LoRAAdapterStatus) -> None:
    """Write the status of a LoRAAdapter."""
    await client.apply_status(_with_status("LoRAAdapter", adapter, status.wire()))


async def _set_guard(client: Client, job: ObservedJob, *, on: bool) -> None:
    others = [each for each in job.finalizers if each != ARTIFACTS_FINALIZER]
    wanted = [*others, ARTIFACTS_FINALIZER] if on else others
    if wanted != list(job.finalizers):
        await client.set_finalizers(LORAJOBS, job.namespace, job.name, wanted, job.version)


def _with_status(kind: str, subject: ObservedJob | ObservedAdapter, status: Document) -> Document:
    """Return the apply document. The uid makes sure that an object of the same name, made since, stays untouched."""
    meta = {"namespace": subject.namespace, "name": subject.name, "uid": subject.uid}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "status": status}
