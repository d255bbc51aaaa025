"""Layout of the artifacts in S3, and the manifest that makes a folder of files an adapter or a checkpoint.

A folder counts when its manifest.json exists; the manifest is written last and never changed. The digest names the
content: it is the SHA-256 of the canonical list of files, so whoever has the list can check every byte.
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from lora_api.base import StatusModel
from lora_api.messages import Servability

MANIFEST_NAME = "manifest.json"
ArtifactKind = Literal["Adapter", "Merged", "GGUF"]
_FOLDERS: dict[ArtifactKind, str] = {"Adapter": "adapters", "Merged": "merged", "GGUF": "gguf"}


class ArtifactLayout(StatusModel):
    """Where the artifacts of one run lie, as s3:// URIs without a trailing slash."""

    output_uri: str
    namespace: str
    name: str
    run: int

    @property
    def root(self) -> str:
        """Folder of the job."""
        return f"{self.output_uri.rstrip('/')}/{self.namespace}/{self.name}"

    @property
    def run_uri(self) -> str:
        """Folder of the run."""
        return f"{self.root}/runs/{self.run}"

    @property
    def prepared(self) -> str:
        """Folder of the tokenised data, which the jobs of a namespace share; no job can have this name."""
        return f"{self.output_uri.rstrip('/')}/{self.namespace}/.prepared"

    @property
    def metrics(self) -> str:
        """One JSON line a logged step."""
        return f"{self.run_uri}/metrics.jsonl"

    @property
    def report(self) -> str:
        """Report of the preflight."""
        return f"{self.run_uri}/report.json"

    @property
    def log(self) -> str:
        """Log of the trainer, readable after the pod is gone."""
        return f"{self.run_uri}/log.jsonl"

    @property
    def checkpoints(self) -> str:
        """Folder of the checkpoints."""
        return f"{self.run_uri}/checkpoints"

    def checkpoint(self, step: int) -> str:
        """Folder of the checkpoint after a step."""
        return f"{self.checkpoints}/step-{step:08d}"

    def adapter(self, digest: str) -> str:
        """Folder of the adapter with a digest (`sha256:<hex>`)."""
        return self.artifact("Adapter", digest)

    def artifact(self, kind: ArtifactKind, digest: str) -> str:
        """Folder of an adapter, or of another form of one, with a digest (`sha256:<hex>`)."""
        return f"{self.root}/{_FOLDERS[kind]}/{digest.replace(':', '-')}"


class FileEntry(StatusModel):
    """One file of an artifact."""

    path: Annotated[
        str,
        Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$"),
    ]
    """Path within the folder, with forward slashes."""
    size: Annotated[int, Field(ge=0)]
    """Bytes."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the content, in hexadecimal."""


def digest_of(files: Iterable[FileEntry]) -> str:
    """Return `sha256:<hex>` of the canonical file list: JSON, sorted by path, no white space."""
    ordered = sorted(files, key=lambda entry: entry.path)
    canonical = json.dumps([entry.model_dump() for entry in ordered], sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def short_digest(digest: str) -> str:
    """Return the digest as people read and compare it: twelve hexadecimal digits."""
    return digest.removeprefix("sha256:")[:12]


class ManifestBaseModel(StatusModel):
    """The base model that the adapter was trained on."""

    name: str
    uri: str
    revision: str


class ManifestDataset(StatusModel):
    """The data that the adapter was trained on."""

    uri: str
    """Of the set that is trained on; see `lora_api.request.public_uri`."""
    digest: str
    rows: int
    validation_rows: int = 0
    tokens: int = 0


class ManifestJob(StatusModel):
    """Who made the artifact."""

    namespace: str
    name: str
    uid: str
    run: int
    image: str = ""


class ManifestRequest(StatusModel):
    """What was asked for, see `lora_api.request`: enough to ask for it again."""

    spec: dict[str, Any]
    """Fields of the LoRAJob's spec that decide the result, with defaults written out and keys in order."""
    withheld: list[str] = []
    """Fields that are missing in it, or lack a part, because they may be secret, such as `dataset.train.uri`."""


class GoldenSample(StatusModel):
    """What base and adapter say after one prompt: log-probabilities of a few next tokens, natural logarithm.

    The prompts are sentences of ours, so no user's data is in them. An engine that serves the adapter rightly says
    nearly the same, so a wrong scale, a wrong base or an adapter that is not applied is seen at once.
    """

    prompt_tokens: Annotated[list[int], Field(min_length=1, max_length=64)]
    """Token ids of the prompt, the same for every tokenizer setting of an engine."""
    base: dict[str, float]
    """Log-probability by token id (a decimal string) with the base alone, of the likeliest tokens of both."""
    adapter: dict[str, float]
    """The same with the adapter, of the same tokens."""


class Manifest(StatusModel):
    """Content of the manifest.json of an adapter, or of another form of one."""

    schema_version: Literal[1] = 1
    kind: ArtifactKind
    digest: str
    """`digest_of(files)`."""
    files: list[FileEntry]
    """What decides what the artifact does."""
    documents: list[FileEntry] = []
    """What describes it for people, such as README.md; not part of the digest."""
    adapter: str | None = None
    """Digest of the adapter that another form was made from."""
    base_model: ManifestBaseModel
    dataset: ManifestDataset
    job: ManifestJob
    lora: dict[str, Any]
    """LoRA settings of the spec, defaults written out."""
    training: dict[str, Any]
    """Training settings as they were used."""
    request: ManifestRequest | None = None
    """None in manifests of trainers that did not record it. It describes, and is not part of the digest."""
    metrics: dict[str, float]
    seed: int
    step: int
    versions: dict[str, str]
    """Versions of Python and of the libraries that decide the result."""
    servable: list[Servability] = []
    samples: Annotated[list[GoldenSample], Field(max_length=16)] = []
    """Of causal language models only."""
    created_time: datetime

    def encode(self) -> bytes:
        """Return the JSON as it is stored."""
        return _stored(self)


class CheckpointManifest(StatusModel):
    """Content of a checkpoint's manifest.json.

    The three digests say what is trained on what: a checkpoint in which one of them differs belongs to another
    training.
    """

    schema_version: Literal[1] = 1
    kind: Literal["Checkpoint"] = "Checkpoint"
    files: list[FileEntry]
    step: int
    """Finished optimizer steps."""
    spec_digest: str
    """See `LoRAJobSpec.result_digest`."""
    dataset_digest: str
    base_revision: str
    versions: dict[str, str] = {}
    """Versions of Python and of the libraries that wrote it."""
    created_time: datetime

    def encode(self) -> bytes:
        """Return the JSON as it is stored."""
        return _stored(self)


def _stored(manifest: StatusModel) -> bytes:
    return (manifest.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n").encode()
