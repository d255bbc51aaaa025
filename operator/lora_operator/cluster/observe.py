"""Takes the snapshot of a job: the LoRAJob and its children, read now, by their deterministic names.

Nothing comes from a watch cache: what is missing there may only be late, and a decision on it would make a second pod.
Only what the decision can use is read.
"""

import asyncio

from lora_api.conditions import is_true
from lora_api.messages import Progress
from lora_api.names import JOB_LABEL, RUN_LABEL
from lora_api.reasons import ConditionType
from lora_operator.cluster.client import CONFIG_MAPS, EVENTS, JOBS, LORAADAPTERS, LORAJOBS, PODS, Client
from lora_operator.cluster.progress import ProgressReader
from lora_operator.domain.adapter import adapter_name
from lora_operator.domain.children import names_of
from lora_operator.domain.observed import AdapterView, Child, Document, Observed, ObservedJob, Stage, WorkView
from lora_operator.domain.reading import newest_failed_create, read_adapter_view, read_child, read_job, read_work
from lora_operator.domain.status import is_finished


class Observer:
    """Reads snapshots."""

    def __init__(self, client: Client, progress: ProgressReader) -> None:
        """Read objects by `client`, and the progress of running pods by `progress`."""
        self._client = client
        self._progress = progress

    async def observe(self, namespace: str, name: str) -> Observed | None:
        """Return the snapshot of a job; None if the job does not exist."""
        document = await self._client.get(LORAJOBS, namespace, name)
        if document is None:
            return None
        job = read_job(document)
        if job.deleting:
            return Observed(job)
        if is_finished(job.status):
            succeeded = is_true(job.status.conditions, ConditionType.SUCCEEDED)
            return Observed(job, adapter=await self._adapter(job) if succeeded else None)
        return await self._children(job)

    async def _children(self, job: ObservedJob) -> Observed:
        passed = is_true(job.status.conditions, ConditionType.PREFLIGHT_PASSED)
        names = names_of(job)
        config_map, preflight, train = await asyncio.gather(
            self._client.get(CONFIG_MAPS, job.namespace, names.config_map),
            _nothing() if passed else self._client.get(JOBS, job.namespace, names.work(Stage.PREFLIGHT)),
            self._client.get(JOBS, job.namespace, names.work(Stage.TRAIN)),
        )
        pods = await self._pods(job) if preflight or train else []
        work = await self._work(job, train, pods)
        return Observed(
            job=job,
            config_map=_child(config_map, job),
            preflight=await self._work(job, preflight, pods),
            train=work,
            adapter=await self._adapter(job) if work and work.complete else None,
            progress=await self._progress_of(job, work),
        )

    async def _pods(self, job: ObservedJob) -> list[Document]:
        labels = f"{JOB_LABEL}={job.name},{RUN_LABEL}={job.run}"
        return [pod async for pod in self._client.list(PODS, job.namespace, labels=labels)]

    async def _work(self, job: ObservedJob, document: Document | None, pods: list[Document]) -> WorkView | None:
        if document is None:
            return None
        work = read_work(document, job, pods)
        if work.pods or work.complete or work.failed:
            return work
        return read_work(document, job, pods, await self._failed_create(job, work))

    async def _failed_create(self, job: ObservedJob, work: WorkView) -> str:
        fields = f"involvedObject.uid={work.uid},reason=FailedCreate"
        return newest_failed_create([each async for each in self._client.list(EVENTS, job.namespace, fields=fields)])

    async def _adapter(self, job: ObservedJob) -> AdapterView | None:
        if job.spec is None or not job.spec.adapter.create:
            return None
        found = await self._client.get(LORAADAPTERS, job.namespace, adapter_name(job, job.spec))
        return read_adapter_view(found) if found else None

    async def _progress_of(self, job: ObservedJob, train: WorkView | None) -> Progress | None:
        pod = train.newest if train else None
        return await self._progress.read(job.namespace, pod) if pod and pod.running and pod.ip else None


def _child(document: Document | None, job: ObservedJob) -> Child | None:
    return read_child(document, job) if document else None


async def _nothing() -> None:
    return None
