"""What an administrator decides once for all jobs, and the operator's own rhythm.

Values only. Reading them from flags and the environment is the business of `app`.
"""

from dataclasses import dataclass

from lora_operator.domain.policy import Policy


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings that decisions depend on."""

    trainer_image: str
    """Image of the trainer pods, unless a job names its own."""

    progress_interval: float = 15.0
    """Seconds between two looks at the progress of one pod, fewer while it is young; a running job's status is written
    at most once a look."""

    policy: Policy = Policy()  # noqa: RUF009 - immutable
    """What an administrator allows the jobs of a namespace."""

    missing_pod_interval: float = 60.0
    """Seconds until a Job without a pod is looked at again. A refused pod is told by an event; this is for a lost
    one."""

    queue_interval: float = 15.0
    """Seconds until Kueue is asked again why a Job waits: its Workloads are not watched, and wake nobody."""

    refused_interval: float = 60.0
    """Seconds until an object that the API server refused is offered again, since a quota may have been raised."""

    leftover_interval: float = 3.0
    """Seconds until a child that is being deleted, or belongs to an earlier object of the same name, is looked at."""
