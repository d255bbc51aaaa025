"""Carries out a plan: finalizer and objects in their order, then the status, then the events. It decides nothing."""

import asyncio
import logging
from datetime import datetime

from lora_api.delivery import DesiredAdapter
from lora_api.names import API_VERSION, ARTIFACTS_FINALIZER, UNLOAD_FINALIZER
from lora_operator.cluster.client import LORAADAPTERS, LORAJOBS, Client, Resource, resource_of
from lora_operator.cluster.desires import DesireWriter
from lora_operator.domain.adapter_plan import AdapterPlan
from lora_operator.domain.events import build_event
from lora_operator.domain.inference import InferencePod
from lora_operator.domain.observed import Document, ObservedAdapter, ObservedJob
from lora_operator.domain.plan import Plan

_LOG = logging.getLogger(__name__)


async def execute(client: Client, job: ObservedJob, plan: Plan, now: datetime) -> None:
    """Write what the plan asks for. An event tells of what is written, so a failed write tells nothing."""
    if plan.guard:
        await _guard_job(client, job, on=True)
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
        await _guard_job(client, job, on=False)


async def execute_adapter(
    client: Client, desires: DesireWriter, adapter: ObservedAdapter, plan: AdapterPlan, now: datetime
) -> None:
    """Write what a plan for a LoRAAdapter asks for. No pod is told anything before the finalizer is there.

    What pods are told is not waited for: the passes of all adapters of a pod are to share one request. The pass that
    the plan asks for afterwards finds what was not written.
    """
    if plan.guard:
        await _guard_adapter(client, adapter, on=True)
    for each in plan.assign:
        tell(desires, each.pod, adapter.name, each.entry)
    if plan.status is not None:
        await client.apply_status(_with_status("LoRAAdapter", adapter, plan.status.wire()))
    if plan.guard is False:  # before the events: a namespace that is being deleted takes none
        await _guard_adapter(client, adapter, on=False)
    for event in plan.events:
        await client.create_event(build_event(adapter, 0, event, now))


def tell(desires: DesireWriter, pod: InferencePod, adapter: str, entry: DesiredAdapter | None) -> None:
    """Have a pod told what it is to serve of an adapter, None for nothing, without waiting for it."""
    desires.submit(pod, {adapter: entry}).add_done_callback(_complain)


def _complain(told: asyncio.Future[None]) -> None:
    if not told.cancelled() and (error := told.exception()) is not None:
        _LOG.warning("A pod could not be told what to serve; it is tried again: %s", error)


async def _guard_job(client: Client, job: ObservedJob, *, on: bool) -> None:
    await _set_guard(client, LORAJOBS, job, ARTIFACTS_FINALIZER, on=on)


async def _guard_adapter(client: Client, adapter: ObservedAdapter, *, on: bool) -> None:
    await _set_guard(client, LORAADAPTERS, adapter, UNLOAD_FINALIZER, on=on)


async def _set_guard(
    client: Client, resource: Resource, subject: ObservedJob | ObservedAdapter, finalizer: str, *, on: bool
) -> None:
    others = [each for each in subject.finalizers if each != finalizer]
    wanted = [*others, finalizer] if on else others
    if wanted != list(subject.finalizers):
        await client.set_finalizers(resource, subject.namespace, subject.name, wanted, subject.version)


def _with_status(kind: str, subject: ObservedJob | ObservedAdapter, status: Document) -> Document:
    """Return the apply document. The uid makes sure that an object of the same name, made since, stays untouched."""
    meta = {"namespace": subject.namespace, "name": subject.name, "uid": subject.uid}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "status": status}
