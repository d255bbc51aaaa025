"""Every name that crosses a process boundary: API group, labels, field manager, paths and ports in a trainer pod.

One home, so that a builder, a reader and a test cannot spell one differently.
"""

from typing import Final

GROUP: Final = "lora-operator.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "lora"

FIELD_MANAGER: Final = "lora-operator"
"""Server-side apply: the owner of everything that the operator writes."""

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
JOB_LABEL: Final = f"{GROUP}/job"
"""On every child: the name of its LoRAJob. The operator watches children by it."""
RUN_LABEL: Final = f"{GROUP}/run"
STAGE_LABEL: Final = f"{GROUP}/stage"
"""On every Job and pod: `preflight` or `train`."""
SPEC_DIGEST_ANNOTATION: Final = f"{GROUP}/spec-digest"
"""On a child: the digest of the spec it was built from, see `LoRAJobSpec.result_digest`."""
ATTEMPT_DIGEST_ANNOTATION: Final = f"{GROUP}/attempt-digest"
"""On a Job: the digest of what its pods are made of, see `LoRAJobSpec.attempt_digest`."""
RESTART_ANNOTATION: Final = f"{GROUP}/restart"
"""On a LoRAJob, by a user: another value asks for a new run of the same spec, as `kubectl rollout restart` does."""
JOB_FILE_ANNOTATION: Final = f"{GROUP}/job-file"
"""On a trainer pod: the job file, which reaches the trainer through a downward API volume."""
JOB_UID_ANNOTATION: Final = f"{GROUP}/job-uid"
"""On a clean-up Job, which has no owner: the uid of its LoRAJob."""
ARTIFACTS_FINALIZER: Final = f"{GROUP}/artifacts"
"""On a LoRAJob with `deletionPolicy: Delete`: its artifacts are removed before it goes."""
QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
"""On a training Job: the Kueue LocalQueue that decides when it may start."""
WORKLOAD_JOB_LABEL: Final = "kueue.x-k8s.io/job-uid"
"""On a Kueue Workload: the uid of the Job it stands for."""

TRAINER_CONTAINER: Final = "trainer"
JOB_FILE_NAME: Final = "job.json"
JOB_FILE_DIRECTORY: Final = "/etc/lora"
JOB_FILE_PATH: Final = f"{JOB_FILE_DIRECTORY}/{JOB_FILE_NAME}"
SCRATCH_DIRECTORY: Final = "/scratch"
"""The one writable folder of a trainer pod (an emptyDir): base model, temporary files, caches, HOME."""
SCRATCH_VARIABLE: Final = "LORA_SCRATCH"
"""Another writable folder, for a trainer outside a pod."""
TERMINATION_LOG_PATH: Final = "/dev/termination-log"
TERMINATION_LOG_VARIABLE: Final = "LORA_TERMINATION_LOG"
"""Another existing file for the last words, for whoever runs a trainer outside a pod."""
TERMINATION_MESSAGE_BYTES: Final = 4096
"""The kubelet cuts a termination message at this many bytes."""
PROGRESS_PORT: Final = 9400
PROGRESS_PORT_NAME: Final = "progress"
PROGRESS_PATH: Final = "/progress"
METRICS_PATH: Final = "/metrics"
CLAIMS_DIRECTORY: Final = "/mnt/claims"
"""Where a trainer pod finds the volumes of its pvc:// URIs, each under the name of its claim, read-only."""
BASE_CACHE_VARIABLE: Final = "LORA_BASE_CACHE"
BASE_CACHE_DIRECTORY: Final = "/mnt/base-models"
"""Where a trainer pod finds the volume of `spec.baseModel.cacheClaimName`; the variable says so to the trainer."""
MASTER_ADDRESS_VARIABLE: Final = "LORA_MASTER_ADDRESS"
"""Where several pods train together: the DNS name of the first of them."""
RENDEZVOUS_PORT: Final = 29500
"""Port of the first pod at which the others meet it."""
HUB_TOKEN_VARIABLE: Final = "HF_TOKEN"  # noqa: S105 - a name, and no secret
"""Carries the key of `spec.baseModel.tokenSecretRef` to the trainer."""
