"""Builds the ConfigMap that carries the job file. It never changes: a run is what it was when it started."""

from lora_api.job_file import JobFile
from lora_api.lorajob import LoRAJobSpec
from lora_api.names import JOB_FILE_NAME, SPEC_DIGEST_ANNOTATION
from lora_operator.domain.children import labels, names_of, owner
from lora_operator.domain.observed import Document, ObservedJob
from lora_operator.domain.settings import Settings


def build_config_map(job: ObservedJob, spec: LoRAJobSpec, settings: Settings) -> Document:
    """Return the ConfigMap of the job's current run."""
    job_file = JobFile(
        namespace=job.namespace,
        name=job.name,
        uid=job.uid,
        run=job.run,
        image=spec.pod.image or settings.trainer_image,
        spec=spec,
    )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "namespace": job.namespace,
            "name": names_of(job).config_map,
            "labels": labels(job, "job-file"),
            "annotations": {SPEC_DIGEST_ANNOTATION: spec.result_digest()},
            "ownerReferences": owner(job),
        },
        "immutable": True,
        "data": {JOB_FILE_NAME: job_file.encode()},
    }
