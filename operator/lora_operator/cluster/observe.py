"""Takes the snapshot of a job: the LoRAJob and its children, read now, by their deterministic names.

Nothing comes from a watch cache: what is missing there may only be late, and a decision on it would make a second pod.
Only what the decision can use is read.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

from lora_api.messages import Progress
from lora_api.names import JOB_LABEL, RUN_LABEL, WORKLOAD_JOB_LABEL
from lora_operator.cluster.client import (
    JOBS,
    LORAADAPTERS,
    LORAJOBS,
    PODS,
    SERVICES,
    WORKLOADS,
    ApiError,
    Client,
    Resource,
)
from lora_operator.cluster.notices import Notices
from lora_operator.cluster.progress import ProgressReader
from lora_operator.domain.adapter import adapter_name
from lora_operator.domain.children import names_of
from lora_operator.domain.needs import Needs, needs_of
from lora_operator.domain.observed import (
    AdapterView,
    Document,
    Observed,
    ObservedJob,
    Stage,
    WorkloadView,
    WorkView,
)
from lora_operator.domain.reading import (
    read_adapter_view,
    read_child,
    read_job,
    read_work,
    read_workload,
)


class Observer:
    """Reads snapshots."""

    def __init__(
        self,
        client: Client,
        progress: ProgressReader,
        notices: Notices,
        on_read: Callable[[Resource, Document], None] = lambda resource, document: None,
    ) -> None:
        """Read objects by `client`; `progress` knows what pods say, and `notices` which pods were refused.

        `on_read` hears of each Job and pod that a snapshot is made of.
        """
        self._client = client
        self._notices = notices
        self._progress = progress
        self._on_read = on_read

    async def observe(
        self, namespace: str, name: str, needs_of: Callable[[ObservedJob], Needs] = needs_of
    ) -> Observed | None:
        """Return the snapshot of a job, with the children that it needs; None if the job does not exist."""
        document = await self._client.get(LORAJOBS, namespace, name)
        if document is None:
            self._progress.forget(namespace, name)
            return None
        job = read_job(document)
        return await self._children(job, needs_of(job))

    async def _children(self, job: ObservedJob, needs: Needs) -> Observed:
        names = names_of(job)
        service, preflight, train, cleanup, adapter = await asyncio.gather(
            self._get(SERVICES, job, names.service, needs.service),
            self._get(JOBS, job, names.work(Stage.PREFLIGHT), needs.preflight),
            self._get(JOBS, job, names.work(Stage.TRAIN), needs.train),
            self._get(JOBS, job, names.work(Stage.CLEANUP), needs.cleanup),
            self._adapter(job, needs.adapter),
        )
        pods = await self._pods(job) if preflight or train or cleanup else []
        observed = Observed(
            job=job,
            service=read_child(service, job) if service else None,
            preflight=self._work(job, preflight, pods),
            train=self._work(job, train, pods),
            cleanup=self._work(job, cleanup, pods),
            adapter=adapter,
        )
        return await self._details(observed)

    async def _details(self, observed: Observed) -> Observed:
        """Add what depends on what was found: the adapter of a training that is complete, queue, and progress."""
        job, train = observed.job, observed.train
        adapter = observed.adapter
        if adapter is None and train is not None and train.complete:
            adapter = await self._adapter(job, needed=True)
        workload = await self._workload(job, train or observed.preflight)
        return replace(observed, adapter=adapter, workload=workload, progress=self._progress_of(job, train))

    async def _get(self, resource: Resource, job: ObservedJob, name: str, needed: bool) -> Document | None:
        return await self._client.get(resource, job.namespace, name) if needed else None

    async def _pods(self, job: ObservedJob) -> list[Document]:
        labels = f"{JOB_LABEL}={job.name},{RUN_LABEL}={job.run}"
        pods = [pod async for pod in self._client.list(PODS, job.namespace, labels=labels)]
        for pod in pods:
            self._on_read(PODS, pod)
        return pods

    def _work(self, job: ObservedJob, document: Document | None, pods: list[Document]) -> WorkView | None:
        if document is None:
            return None
        self._on_read(JOBS, document)
        work = read_work(document, job, pods)
        if not work.lacks_pods:
            return work
        since = work.pods[-1].created if work.pods else ""
        return replace(work, failed_create=self._notices.newest(work.child.uid, since))

    async def _adapter(self, job: ObservedJob, needed: bool) -> AdapterView | None:
        if not needed or job.spec is None or not job.spec.adapter.create:
            return None
        found = await self._client.get(LORAADAPTERS, job.namespace, adapter_name(job, job.spec))
        return read_adapter_view(found) if found else None

    async def _workload(self, job: ObservedJob, work: WorkView | None) -> WorkloadView | None:
        """Return what Kueue says about a Job that it keeps waiting. A cluster without Kueue says nothing."""
        if work is None or not work.suspended:
            return None
        labels = f"{WORKLOAD_JOB_LABEL}={work.child.uid}"
        for served in WORKLOADS:
            try:
                return read_workload([each async for each in self._client.list(served, job.namespace, labels=labels)])
            except ApiError as error:
                if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
                    raise
        return None

    def _progress_of(self, job: ObservedJob, train: WorkView | None) -> Progress | None:
        pod = train.newest if train else None
        if pod is None or not pod.running or not pod.ip:
            self._progress.forget(job.namespace, job.name)
            return None
        return self._progress.read(job.namespace, job.name, pod)
