"""LoRAJob: one fine-tuning run as a user writes it.

The whole v1alpha1 shape. Defaults live here and nowhere else; they are not written into the CRD, because a default
that the API server fills in shows up as drift in every GitOps tool.
"""

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from lora_api.base import (
    ApiModel,
    ObjectName,
    ServedName,
    rules,
)
from lora_api.placement import Pod, Resources, Scheduling
from lora_api.sources import BaseModelSource, Dataset, Output, Storage
from lora_api.spec_rules import SPEC_RULES
from lora_api.training import Evaluation, Lora, Objective, Quantization, Task, Training


class DeletionPolicy(StrEnum):
    """What happens to the artifacts when the LoRAJob is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class Preflight(ApiModel):
    """The checks on a CPU pod before any GPU is asked for."""

    enabled: bool = True
    """Default: true."""
    maximum_truncated_fraction: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of rows that may be longer than maxLength before the preflight fails. Default: 0.05."""


class FailurePolicy(ApiModel):
    """How often to try, and how long."""

    max_failures: Annotated[int, Field(ge=0, le=100)] = 3
    """Failures that are tried again before the job is given up. Bad input is never tried twice. Default: 3."""
    max_disruptions: Annotated[int, Field(ge=0, le=10_000)] = 100
    """Evictions, pre-emptions and lost nodes before the job is given up. Default: 100."""
    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = None
    """Longest life of the job, over all attempts. Default: no limit."""
    stall_timeout_seconds: Annotated[int, Field(ge=60)] = 1800
    """Longest time without a finished step. Default: 1800."""


class AdapterTemplate(ApiModel):
    """The LoRAAdapter that a successful job creates, or moves to its new digest."""

    create: bool = True
    """Default: true."""
    name: ObjectName | None = None
    """Name of the LoRAAdapter. Default: that of the job."""
    served_name: ServedName | None = None
    """Model name that the inference engine answers to. Default: the name of the LoRAAdapter."""


class LoRAJobSpec(ApiModel):
    """What a user asks for."""

    model_config = ConfigDict(json_schema_extra=rules(*SPEC_RULES))

    task: Task = Task.CAUSAL_LM
    """What the model learns to do. Default: CausalLM."""
    objective: Objective = Objective.SFT
    """What is optimised. Default: SFT."""
    base_model: BaseModelSource
    """The frozen model under the adapter."""
    dataset: Dataset
    """What the adapter is trained and validated on."""
    output: Output
    """Where the artifacts go."""
    lora: Lora = Lora()
    """Which modules the adapter changes, and how large it is."""
    quantization: Quantization | None = None
    """A quantized base model (QLoRA). Default: none."""
    training: Training = Training()
    """How to train."""
    evaluation: Evaluation | None = None
    """What is measured besides the evaluation loss."""
    storage: Storage = Storage()
    """How the pods reach S3."""
    resources: Resources = Resources()
    """What one training pod gets."""
    scheduling: Scheduling = Scheduling()
    """Where the pods run."""
    pod: Pod = Pod()
    """The rest of the pod that a user may decide."""
    suspend: bool = False
    """Stop after a checkpoint, and go on from it when false again. Default: false."""
    preflight: Preflight = Preflight()
    """The checks before any GPU is asked for."""
    failure_policy: FailurePolicy = FailurePolicy()
    """How often to try, and how long."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0)] | None = None
    """Time after the end when pods and Jobs are removed; the LoRAJob stays. Default: never."""
    adapter: AdapterTemplate = AdapterTemplate()
    """The LoRAAdapter that a successful job creates."""
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    """What happens to the artifacts when the LoRAJob is deleted. Default: Retain."""

    def result_digest(self) -> str:
        """Return the SHA-256 (hex) of the fields that decide what the adapter becomes.

        Two specs with the same digest ask for the same adapter. A field with its default is left out, so that
        writing a default out changes nothing, and neither does a field that a later release adds.
        """
        return self._digest(RESULT_FIELDS)

    def attempt_digest(self) -> str:
        """Return the SHA-256 (hex) of the fields that decide how the pods of a run look and how often they are tried.

        A pod that runs is left alone when it changes; a run that waits for a pod, or has failed, goes on with the new
        fields, from its last checkpoint.
        """
        return self._digest(ATTEMPT_FIELDS)

    def _digest(self, fields: set[str]) -> str:
        dumped: dict[str, Any] = self.model_dump(mode="json", by_alias=True, include=fields, exclude_defaults=True)
        return hashlib.sha256(json.dumps(dumped, sort_keys=True).encode()).hexdigest()


RESULT_FIELDS = {
    "task", "objective", "base_model", "dataset", "output", "lora", "quantization", "training", "evaluation",
}  # fmt: skip
"""Fields whose change asks for another adapter. Limits, scheduling, storage access and clean-up do not."""
ATTEMPT_FIELDS = {"base_model", "storage", "resources", "scheduling", "pod", "failure_policy", "preflight"}
"""Fields that a pod of a run is made of, or that limit its attempts."""
