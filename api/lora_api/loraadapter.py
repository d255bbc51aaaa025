"""LoRAAdapter: a published adapter that inference deployments can mount.

It outlives the job that made it, and can be written by hand for an adapter from elsewhere.
"""

from typing import Annotated

from pydantic import Field

from lora_api.base import ApiModel, ShortString, StatusModel, UriRule
from lora_api.conditions import ConditionList
from lora_api.sources import Storage

AdapterUri = Annotated[
    str,
    UriRule(
        r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^\s]+$",
        "write s3://bucket/path of a folder that holds a manifest.json",
    ),
]
Digest = Annotated[str, UriRule(r"^sha256:[0-9a-f]{64}$", "write sha256: and 64 hexadecimal digits")]


class BaseModelReference(ApiModel):
    """The base model that the adapter belongs to."""

    name: Annotated[str, Field(min_length=1, max_length=1024)]
    """owner/name of a hub model, or the URI of any other."""
    revision: ShortString | None = None
    """Commit of a hub model, or the digest of the listing of a folder."""


class AdapterSource(ApiModel):
    """The published files."""

    uri: AdapterUri
    """Folder that holds manifest.json."""
    digest: Digest
    """sha256:<hex> of the canonical list of files; checked after each download."""
    storage: Storage | None = None
    """How the pods reach S3. Default: their own identity."""


class LoRAAdapterSpec(ApiModel):
    """Which adapter, and under which name it is served."""

    base_model: BaseModelReference
    """The base model that the adapter belongs to."""
    source: AdapterSource
    """The published files."""
    served_name: ShortString | None = None
    """Model name that the engine answers to. Default: the name of the object."""


class PodAdapterState(StatusModel):
    """What one inference pod says of the adapter."""

    name: str
    node: str = ""
    engine: str = ""
    state: str = ""
    digest: str = ""
    message: Annotated[str, Field(max_length=1024)] = ""


class LoRAAdapterStatus(StatusModel):
    """What the operator observed."""

    observed_generation: int | None = None
    """Generation that this status speaks of."""
    conditions: ConditionList = []
    """Observations, one of a type."""
    digest: str | None = None
    """Digest that is to be served."""
    previous_digest: str | None = None
    """Digest that was served before."""
    desired_pods: int | None = None
    """Pods that ask for the adapter."""
    ready_pods: int | None = None
    """Pods whose engine has loaded it."""
    pods: Annotated[
        list[PodAdapterState],
        Field(
            max_length=100,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = []
    """State a pod."""
