"""Builds the Jobs of a run: preflight, training, and the clean-up after it.

Kubernetes' own Job controller starts and replaces pods; the pod failure policy tells it which ends are worth another
try. A Job is created once and never changed: its template is immutable, and what Kueue writes to it is Kueue's.
"""

from datetime import datetime, timedelta

from lora_api.exit_codes import DISRUPTIONS, PERMANENT, ExitCode
from lora_api.lorajob import LoRAJobSpec
from lora_api.lorajob_status import Attempts, LoRAJobStatus
from lora_api.names import (
    ATTEMPT_DIGEST_ANNOTATION,
    JOB_UID_ANNOTATION,
    QUEUE_LABEL,
    SPEC_DIGEST_ANNOTATION,
    TRAINER_CONTAINER,
)
from lora_operator.domain.children import labels, names_of, owner
from lora_operator.domain.observed import Document, ObservedJob, Stage
from lora_operator.domain.pod import build_pod_template
from lora_operator.domain.settings import Settings

SHORT_RETRIES = 2
"""Preflight and clean-up only read or delete; what fails three times is worth a look by a person."""


def build_job(
    job: ObservedJob, spec: LoRAJobSpec, stage: Stage, settings: Settings, status: LoRAJobStatus, now: datetime
) -> Document:
    """Return the Job of a stage. The status tells what the run has used up of its failures and its time."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(job, spec, stage),
        "spec": {
            **_pods_at_once(spec, stage),
            "backoffLimit": _retries(spec, stage, status),
            **_deadline(spec, stage, status, now),
            **({"suspend": True} if _queue(spec, stage) else {}),  # Kueue, and nobody else, lets it start
            "podReplacementPolicy": "Failed",  # two trainers of one run must never write at the same time
            "podFailurePolicy": {"rules": _failure_rules()},
            "template": build_pod_template(job, spec, stage, settings),
        },
    }


def _metadata(job: ObservedJob, spec: LoRAJobSpec, stage: Stage) -> Document:
    queue = _queue(spec, stage)
    annotations = {SPEC_DIGEST_ANNOTATION: spec.result_digest(), ATTEMPT_DIGEST_ANNOTATION: spec.attempt_digest()}
    metadata: Document = {
        "namespace": job.namespace,
        "name": names_of(job).work(stage),
        "labels": labels(job, "trainer", stage) | ({QUEUE_LABEL: queue} if queue else {}),
        "annotations": annotations,
    }
    if stage is Stage.CLEANUP:  # it has no owner: it would go with the LoRAJob before its work is done
        annotations[JOB_UID_ANNOTATION] = job.uid
        return metadata
    return metadata | {"ownerReferences": owner(job)}


def _queue(spec: LoRAJobSpec, stage: Stage) -> str | None:
    return None if stage is Stage.CLEANUP else spec.scheduling.queue_name


def _pods_at_once(spec: LoRAJobSpec, stage: Stage) -> Document:
    nodes = spec.resources.nodes if stage is Stage.TRAIN else 1
    found: Document = {"completions": nodes, "parallelism": nodes}
    if nodes == 1:
        return found
    # The first pod speaks for all. Without the policy one that is replaced after it has ended would wait in vain.
    return found | {"completionMode": "Indexed", "successPolicy": {"rules": [{"succeededIndexes": "0"}]}}


def _retries(spec: LoRAJobSpec, stage: Stage, status: LoRAJobStatus) -> int:
    """Return how many failures the Job may have: what earlier Jobs of the run have left of the budget."""
    if stage is not Stage.TRAIN:
        return SHORT_RETRIES
    return max(0, spec.failure_policy.max_failures - (status.attempts or Attempts()).failures)


def _deadline(spec: LoRAJobSpec, stage: Stage, status: LoRAJobStatus, now: datetime) -> Document:
    """Return the rest of the run's time, which Kubernetes enforces too while no operator is there."""
    seconds, start = spec.failure_policy.active_deadline_seconds, status.start_time
    if seconds is None or start is None or stage is Stage.CLEANUP:
        return {}
    left = int((start + timedelta(seconds=seconds) - now).total_seconds())
    return {"activeDeadlineSeconds": max(1, left)}


def _failure_rules() -> list[Document]:
    """Return the rules in their order: the first that matches decides."""
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": _exit_codes(DISRUPTIONS)},
        {"action": "FailJob", "onExitCodes": _exit_codes(PERMANENT)},
    ]


def _exit_codes(codes: frozenset[ExitCode]) -> Document:
    return {"containerName": TRAINER_CONTAINER, "operator": "In", "values": sorted(int(code) for code in codes)}
