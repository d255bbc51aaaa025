"""Builds the Jobs of a run: one for the preflight, one for the training.

Kubernetes' own Job controller starts and replaces pods; the pod failure policy tells it which ends are worth another
try. A Job is created once and never changed, because its template is immutable.
"""

from lora_api.exit_codes import DISRUPTIONS, PERMANENT, ExitCode
from lora_api.lorajob import LoRAJobSpec
from lora_api.names import SPEC_DIGEST_ANNOTATION, TRAINER_CONTAINER
from lora_operator.domain.children import labels, names_of, owner
from lora_operator.domain.observed import Document, ObservedJob, Stage
from lora_operator.domain.pod import build_pod_template
from lora_operator.domain.settings import Settings

PREFLIGHT_RETRIES = 2
"""A preflight only reads; what fails three times (S3 that does not answer) is worth a look by a person."""


def build_job(job: ObservedJob, spec: LoRAJobSpec, stage: Stage, settings: Settings) -> Document:
    """Return the Job of a stage."""
    retries = PREFLIGHT_RETRIES if stage is Stage.PREFLIGHT else spec.failure_policy.max_failures
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "namespace": job.namespace,
            "name": names_of(job).work(stage),
            "labels": labels(job, "trainer", stage),
            "annotations": {SPEC_DIGEST_ANNOTATION: spec.result_digest()},
            "ownerReferences": owner(job),
        },
        "spec": {
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": retries,
            "podReplacementPolicy": "Failed",  # two trainers of one run must never write at the same time
            "podFailurePolicy": {"rules": _failure_rules()},
            "template": build_pod_template(job, spec, stage, settings),
        },
    }


def _failure_rules() -> list[Document]:
    """Return the rules in their order: the first that matches decides."""
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": _exit_codes(DISRUPTIONS)},
        {"action": "FailJob", "onExitCodes": _exit_codes(PERMANENT)},
    ]


def _exit_codes(codes: frozenset[ExitCode]) -> Document:
    return {"containerName": TRAINER_CONTAINER, "operator": "In", "values": sorted(int(code) for code in codes)}
