"""The contract between operator and agent: what a pod is to serve goes down, what it serves comes up.

Down: `Desired`, the JSON in the pod annotation `lora-operator.io/desired`, which the agent reads as a file. Up:
`AgentStatus`, the answer of `GET /status` at the pod's address. The agent speaks for its own pod alone, so whoever
reads an answer looks only at adapters which that pod was told to serve.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from lora_api.base import ObjectName, SecretKeyReference, ServedName, ShortString, StatusModel
from lora_api.loraadapter import AdapterUri, BaseModelReference, Digest, Verify
from lora_api.messages import Servability
from lora_api.sources import Storage

MAX_ADAPTERS = 256
"""Adapters of one pod. All annotations of an object together may have 256 KiB."""
_Text = Annotated[str, StringConstraints(max_length=1024)]


class DesiredAdapter(StatusModel):
    """One version of one LoRAAdapter that the pod is to serve."""

    name: ObjectName
    """Name of the LoRAAdapter, of the pod's own namespace."""
    served_name: ServedName
    uri: AdapterUri
    revision: ShortString | None = None
    digest: Digest | None = None
    """None: take what is there, and say which digest it has."""
    base_model: BaseModelReference
    storage: Storage | None = None
    """How S3 is reached. The keys of `credentialsSecretRef` lie in `SECRETS_DIRECTORY/<name of the Secret>/`."""
    token_secret_ref: SecretKeyReference | None = None
    verify: Verify = Verify()


class Desired(StatusModel):
    """All that a pod is to serve; what is not in it is unloaded."""

    adapters: Annotated[list[DesiredAdapter], Field(max_length=MAX_ADAPTERS)] = []

    def encode(self) -> str:
        """Return the text of the annotation. Equal values have equal texts."""
        ordered = sorted(self.adapters, key=lambda each: each.name)
        return Desired(adapters=ordered).model_dump_json(by_alias=True, exclude_defaults=True)


class AdapterState(StrEnum):
    """How far one adapter is in one pod, in the order of its way."""

    PENDING = "Pending"
    DOWNLOADING = "Downloading"
    ON_DISK = "OnDisk"
    """Downloaded, verified, published under its digest."""
    LOADING = "Loading"
    """The engine loads it, or it is being checked under a name of its own."""
    SERVED = "Served"
    """The engine's own list shows it with this digest."""
    FAILED = "Failed"
    """See reason and message. What was served before is still served."""
    UNLOADING = "Unloading"


class SampleResult(StatusModel):
    """Comparison with what the trainer recorded."""

    compared: int
    """Prompts."""
    agreed: int
    distance: float
    """Mean distance of the engine's log-probabilities from the trainer's, with adapter."""


class ProbeResult(StatusModel):
    """What the checks of a version found."""

    effect: float | None = None
    """Mean difference of log-probabilities between base and adapter; 0 means that the adapter does nothing."""
    samples: SampleResult | None = None


class AgentAdapter(StatusModel):
    """What the pod says of one adapter."""

    name: str
    """Name of the LoRAAdapter."""
    served_name: str
    state: AdapterState
    digest: str = ""
    """Digest that is worked on, or served: the desired one; if that is not given, the one that was found."""
    served_digest: str = ""
    """Digest that the engine serves under the name now, by the engine's own list; empty if none."""
    reason: Annotated[str, StringConstraints(max_length=64)] = ""
    """A value of `lora_api.reasons.Reason` if it failed or waits."""
    message: _Text = ""
    permanent: bool = False
    """Whether it is tried again only when something else is desired."""
    downloaded_bytes: int = 0
    total_bytes: int = 0
    load_seconds: float | None = None
    """Time of the engine's load call."""
    probe: ProbeResult | None = None
    compatibility: Annotated[list[Servability], Field(max_length=16)] = []
    """Verdict an engine."""


class EngineStatus(StatusModel):
    """The engine beside the agent."""

    kind: str
    """vllm, sglang, lorax, dirwatch or static."""
    version: Annotated[str, StringConstraints(max_length=64)] = ""
    reachable: bool = False
    base_model: _Text = ""
    """What the engine says of its base model."""
    max_rank: int | None = None
    restarts: int = 0
    """Restarts of the engine that the agent has seen."""


class AgentStatus(StatusModel):
    """Answer of `GET /status`."""

    pod_uid: str
    started: bool = False
    """What has to be on disk before the engine starts is there."""
    ready: bool = False
    """All required adapters are served."""
    engine: EngineStatus
    desired_digest: str = ""
    """SHA-256 of the annotation's text that the agent works from, in hexadecimal; empty if it has seen none."""
    adapters: Annotated[list[AgentAdapter], Field(max_length=2 * MAX_ADAPTERS)] = []
    """Also such as are being unloaded and are not desired any more."""
