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
HUB_TOKEN_VARIABLE: Final = "HF_TOKEN"  # noqa: S105 - a name, and no secret
"""Carries the key of `spec.baseModel.tokenSecretRef` to the trainer."""
