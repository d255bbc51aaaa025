"""Parts of a LoRAJob: what its pods get, where they run, and the rest that a user may decide about them."""

from typing import Annotated, Literal

from pydantic import Field

from lora_api.base import ApiModel, FreeObject, LongString, ObjectName, Quantity, SecretReference, ShortString


class Resources(ApiModel):
    """What one training pod gets."""

    gpus: Annotated[int, Field(ge=0, le=64)] = 1
    """GPUs a node; 0 trains on the CPU. Default: 1."""
    gpu_resource_name: ShortString = "nvidia.com/gpu"
    """Name of the extended resource. Default: nvidia.com/gpu."""
    nodes: Annotated[int, Field(ge=1, le=64)] = 1
    """Pods that train together. Default: 1."""
    cpu: Quantity | None = None
    """CPU request and limit. Default: request 1, no limit."""
    memory: Quantity | None = None
    """Memory request and limit. Default: 16Gi, and 4Gi without GPUs."""
    scratch: Quantity | None = None
    """Size of the scratch volume, which holds the base model. Default: 64Gi."""


class Toleration(ApiModel):
    """A toleration, as in a pod."""

    key: ShortString | None = None
    """Key of the taint; empty with operator Exists tolerates all."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """Default: Equal."""
    value: Annotated[str, Field(max_length=253)] | None = None
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; empty tolerates all."""
    toleration_seconds: int | None = None
    """How long a NoExecute taint is tolerated."""


class Scheduling(ApiModel):
    """Where the pods run."""

    node_selector: Annotated[dict[ShortString, Annotated[str, Field(max_length=63)]], Field(max_length=32)] = {}
    """Labels that the node must have."""
    tolerations: Annotated[list[Toleration], Field(max_length=32)] = []
    """Taints that the pods tolerate."""
    affinity: FreeObject | None = None
    """Affinity, as in a pod."""
    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods."""
    runtime_class_name: ObjectName | None = None
    """RuntimeClass of the pods."""
    service_account_name: ObjectName | None = None
    """ServiceAccount of the pods, for a cloud identity. Its token is not mounted. Default: default."""
    queue_name: ObjectName | None = None
    """Kueue LocalQueue of the training Job."""


class EnvironmentVariable(ApiModel):
    """One environment variable of the trainer."""

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """Name of the variable."""
    value: LongString = ""
    """Its value. Secrets belong into storage.credentialsSecretRef and baseModel.tokenSecretRef."""


class Pod(ApiModel):
    """The rest of the pod that a user may decide."""

    image: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """Trainer image. Default: the one that the operator was installed with."""
    labels: Annotated[dict[ShortString, Annotated[str, Field(max_length=63)]], Field(max_length=32)] = {}
    """Labels added to the pods."""
    annotations: Annotated[dict[ShortString, LongString], Field(max_length=32)] = {}
    """Annotations added to the pods."""
    env: Annotated[list[EnvironmentVariable], Field(max_length=64)] = []
    """Environment variables added to the trainer."""
    image_pull_secrets: Annotated[list[SecretReference], Field(max_length=8)] = []
    """Secrets for pulling the image."""
