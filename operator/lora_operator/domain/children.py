"""Names, labels and owners of everything that a job makes.

Names are a function of the job and its run alone, so a crash at any point, or a second operator, can never make a
second pod. Labels of ours always win over a user's.
"""

from dataclasses import dataclass

from lora_api.names import (
    API_VERSION,
    COMPONENT_LABEL,
    FIELD_MANAGER,
    GROUP,
    JOB_LABEL,
    MANAGED_BY_LABEL,
    RUN_LABEL,
    STAGE_LABEL,
)
from lora_operator.domain.observed import Document, ObservedJob, Stage

_RESERVED_PREFIXES = (f"{GROUP}/", "batch.kubernetes.io/", "kubectl.kubernetes.io/")
_RESERVED_LABELS = frozenset({"controller-uid", "job-name"})
"""Labels that the Job controller sets itself; a Job whose template carries another value is refused."""


@dataclass(frozen=True, slots=True)
class ChildNames:
    """Names of the children of one run."""

    job: str
    run: int

    @property
    def service(self) -> str:
        """Name of the Service by which the pods of several nodes find each other."""
        return f"{self.job}-{self.run}"

    def work(self, stage: Stage) -> str:
        """Name of the Job of a stage."""
        return f"{self.job}-{self.run}-{stage}"


def job_of_work(name: str) -> str | None:
    """Return the LoRAJob whose Job has this name; None if the name is not one that we give."""
    job, run, stage = [*name.rsplit("-", 2), "", ""][:3]
    return job if stage in set(Stage) and run.isdecimal() else None


def names_of(job: ObservedJob) -> ChildNames:
    """Return the names of the children of the job's current run."""
    return ChildNames(job.name, job.run)


def labels(job: ObservedJob, component: str, stage: Stage | None = None) -> dict[str, str]:
    """Return the labels of a child."""
    found = {
        MANAGED_BY_LABEL: FIELD_MANAGER,
        COMPONENT_LABEL: component,
        JOB_LABEL: job.name,
        RUN_LABEL: str(job.run),
    }
    return found | ({STAGE_LABEL: stage.value} if stage else {})


def without_reserved(pairs: dict[str, str]) -> dict[str, str]:
    """Return a user's labels or annotations without those that are ours or Kubernetes' own."""
    return {
        key: value
        for key, value in pairs.items()
        if not key.startswith(_RESERVED_PREFIXES) and key not in _RESERVED_LABELS
    }


def owner(job: ObservedJob) -> list[Document]:
    """Return the owner reference that ties a child's life to the job's."""
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "LoRAJob",
            "name": job.name,
            "uid": job.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
