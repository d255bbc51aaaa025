"""LoRAAdapter: an adapter that running inference pods pick up by themselves.

It outlives the job that made it, and can be written by hand for an adapter from elsewhere.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from lora_api.base import ApiModel, SecretKeyReference, ServedName, ShortString, StatusModel, UriRule, rule, rules
from lora_api.conditions import ConditionList
from lora_api.messages import Servability
from lora_api.sources import Storage

MAX_PODS_IN_STATUS = 100
MAX_VERSIONS = 20

AdapterUri = Annotated[
    str,
    UriRule(
        r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^\s]+|hf://[A-Za-z0-9][\w.-]*/[\w.-]+(/[\w./-]+)?)$",
        "write s3://bucket/path or hf://owner/name of a folder with an adapter_config.json",
        local="file://",
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
    """The files: published by a job, with a manifest, or any folder that PEFT wrote."""

    uri: AdapterUri
    """Folder that holds adapter_config.json and adapter_model.safetensors; with a manifest.json if a job made it."""
    digest: Digest | None = None
    """sha256:<hex> of the canonical list of files; checked after each download. Without it the digest of the first
    download is kept in the status, and other content is refused from then on."""
    revision: ShortString | None = None
    """Commit, tag or branch of an hf:// source. Default: main."""
    storage: Storage | None = None
    """How the pods reach S3. Default: their own identity."""
    token_secret_ref: SecretKeyReference | None = None
    """Token for a private hf:// source."""


class Check(StrEnum):
    """What a failed check means."""

    REQUIRED = "Required"
    """The version is not served."""
    WARN = "Warn"
    """It is served, and the status says so."""
    OFF = "Off"
    """It is not made."""


class Verify(ApiModel):
    """Checks of a new version, made under a name of its own before it answers to anybody."""

    effect: Check = Check.REQUIRED
    """The adapter changes what the base model says. Default: Required."""
    samples: Check = Check.REQUIRED
    """The engine says what the trainer recorded in the manifest, if it did. Default: Required."""


class Rollout(ApiModel):
    """How a new version reaches the pods."""

    canary: bool = True
    """Serve it in one pod first, and in the others when it is good there. Default: true."""
    step_percent: Annotated[int, Field(ge=1, le=100)] = 25
    """Share of the pods that change at the same time after the canary. Default: 25; at least one pod."""
    timeout_seconds: Annotated[int, Field(ge=30, le=86_400)] = 600
    """Time without progress after which the status says Degraded; it goes on trying. Default: 600."""


class Versions(ApiModel):
    """Which version is served."""

    pin: Digest | None = None
    """Serve this version of status.versions, whatever source says: a rollback by hand. Default: source."""
    history_limit: Annotated[int, Field(ge=1, le=MAX_VERSIONS)] = 5
    """Versions to remember in status.versions. Default: 5."""


class LoRAAdapterSpec(ApiModel):
    """Which adapter, and under which name it is served."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.source.revision) || self.source.uri.startsWith('hf://')",
                "source.revision: an s3:// folder has no revisions; write source.digest",
            ),
            rule(
                "has(self.servedName) == has(oldSelf.servedName)"
                " && (!has(self.servedName) || self.servedName == oldSelf.servedName)",
                "servedName: clients ask for this name, so it cannot change; write another LoRAAdapter beside this one",
            ),
        )
    )

    base_model: BaseModelReference
    """The base model that the adapter belongs to."""
    source: AdapterSource
    """The files."""
    served_name: ServedName | None = None
    """Model name that the engine answers to. Default: the name of the object."""
    versions: Versions = Versions()
    """Which version is served."""
    rollout: Rollout = Rollout()
    """How a new version reaches the pods."""
    verify: Verify = Verify()
    """Checks before a new version is served."""


class PodAdapterState(StatusModel):
    """What one inference pod says of the adapter."""

    name: str
    node: str = ""
    engine: str = ""
    state: str = ""
    """NotInjected, Unreachable, Unassigned, or a state of the agent, see `lora_api.delivery.AdapterState`."""
    digest: str = ""
    """Digest that the engine serves, proved by the engine's own list."""
    reason: str = ""
    message: Annotated[str, Field(max_length=1024)] = ""


class VersionState(StrEnum):
    """What became of a version."""

    SERVING = "Serving"
    SUPERSEDED = "Superseded"
    REJECTED = "Rejected"


class AdapterVersion(StatusModel):
    """A version that was served or tried, with all that is needed to serve it again."""

    digest: str
    state: VersionState
    source: AdapterSource
    base_model: BaseModelReference
    time: datetime
    """When it got this state."""
    reason: str = ""
    message: Annotated[str, Field(max_length=1024)] = ""


class RolloutStage(StrEnum):
    """How far the rollout of the newest version is."""

    CANARY = "Canary"
    ROLLING = "Rolling"
    DONE = "Done"
    FAILED = "Failed"


class RolloutStatus(StatusModel):
    """The rollout of one version."""

    digest: str
    """What is rolled out; empty while the digest of a source without one is not known."""
    generation: int
    """Generation of the spec that asked for it. A failed rollout is tried again for another one."""
    stage: RolloutStage
    canary: str = ""
    """Pod that gets it first; of a failed rollout the pod in which it failed."""
    started_time: datetime
    progress_time: datetime
    """When a pod last came to serve it; the timeout counts from here."""


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
    digest_short: str | None = None
    """The first characters of digest, for people."""
    served_pods: str | None = None
    """Pods that serve the digest, of those that ask for it: 2/3. For people."""
    rollout: RolloutStatus | None = None
    """How far the newest version is."""
    versions: Annotated[list[AdapterVersion], Field(max_length=MAX_VERSIONS)] = []
    """Versions, newest first."""
    compatibility: Annotated[
        list[Servability],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["engine"]},
        ),
    ] = []
    """Whether each engine can load it, and why not."""
    desired_pods: int | None = None
    """Pods that ask for the adapter."""
    ready_pods: int | None = None
    """Pods whose engine serves the digest."""
    pods: Annotated[
        list[PodAdapterState],
        Field(
            max_length=MAX_PODS_IN_STATUS,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = []
    """State a pod, those with trouble first."""
