"""Parts of a LoRAJob: where base model and data come from, where the artifacts go, and how S3 is reached."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from lora_api.base import (
    ApiModel,
    ObjectName,
    SecretKeyReference,
    SecretReference,
    ShortString,
    UriRule,
    rule,
    rules,
)

BaseModelUri = Annotated[
    str,
    UriRule(
        r"^(hf://[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^\s]+|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[^\s]+)$",
        "write hf://owner/name, s3://bucket/path or pvc://claim/path",
        local="file:///",
    ),
]


DataUri = Annotated[
    str,
    UriRule(
        r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^\s]+|hf://[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+(/[^\s]+)?|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[^\s]+|https://[^\s]+)$",
        "write one s3://bucket/path, hf://owner/name/path, pvc://claim/path or https://host/path",
        local="file:///",
    ),
]


OutputUri = Annotated[
    str,
    UriRule(
        r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s]+)?$",
        "write s3://bucket or s3://bucket/prefix",
        local="file:///",
    ),
]


Endpoint = Annotated[str, UriRule(r"^https?://[^\s]+$", "write http://host:port or https://host:port")]


class DataFormat(StrEnum):
    """Shape of a row of data."""

    AUTO = "Auto"
    MESSAGES = "Messages"
    PROMPT_COMPLETION = "PromptCompletion"
    INSTRUCTION = "Instruction"
    TEXT = "Text"
    PREFERENCE = "Preference"
    CLASSIFICATION = "Classification"
    TAGGING = "Tagging"
    SOURCE_TARGET = "SourceTarget"


class BaseModelSource(ApiModel):
    """The frozen model under the adapter. Code that comes with a model is never run."""

    uri: BaseModelUri
    """Where the model lies: hf://owner/name, s3://bucket/path or pvc://claim/path."""
    revision: ShortString = "main"
    """Branch, tag or commit of a hub model. The run records the commit it resolved to. Default: main."""
    token_secret_ref: SecretKeyReference | None = None
    """Token for a gated model of the hub."""
    cache_claim_name: ObjectName | None = None
    """A PersistentVolumeClaim that keeps base models between jobs."""


class DataSource(ApiModel):
    """One set of rows."""

    uri: DataUri
    """Where the rows lie: s3://bucket/path, hf://owner/name/path, pvc://claim/path or https://host/path.

    A file (jsonl, json, csv, parquet), a folder, or a pattern such as s3://data/support/*.jsonl.
    """
    format: DataFormat = DataFormat.AUTO
    """Shape of a row. Default: Auto, which the preflight report explains."""
    columns: Annotated[dict[ShortString, ShortString], Field(max_length=16)] = {}
    """Names of columns that differ from the usual ones, such as prompt: question."""
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0
    """Passes over this set in one epoch; 0.5 takes half of its rows, chosen by the seed. Default: 1."""


class Validation(ApiModel):
    """Rows that are never trained on: a share of the training rows, or a set of its own."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.fraction) != has(self.uri)",
                "write either fraction (a share of the training rows) or uri (a set of its own), not both",
            )
        )
    )

    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training rows that is set aside, chosen by the seed."""
    uri: DataUri | None = None
    """Where the validation rows lie."""
    format: DataFormat = DataFormat.AUTO
    """Shape of a row. Default: Auto."""
    columns: Annotated[dict[ShortString, ShortString], Field(max_length=16)] = {}
    """Names of columns that differ from the usual ones."""


class Dataset(ApiModel):
    """What the adapter is trained and validated on."""

    train: DataSource
    """Rows to train on."""
    mixture: Annotated[list[DataSource], Field(max_length=16)] = []
    """More sets to train on together with train, each by its weight."""
    validation: Validation | None = None
    """Rows to validate on. Default: none, which is fine for a trial and unwise for anything else."""


class OutputFormat(StrEnum):
    """A form of the trained model besides the adapter."""

    MERGED = "Merged"
    """The base model with the adapter added to its weights, as safetensors."""
    GGUF = "GGUF"
    """The adapter for llama.cpp."""


class Output(ApiModel):
    """Where the artifacts go."""

    uri: OutputUri
    """s3://bucket or s3://bucket/prefix; the namespace and name of the job are added."""
    formats: Annotated[list[OutputFormat], Field(max_length=4)] = []
    """Forms to publish besides the adapter. Default: none."""


class Storage(ApiModel):
    """How the pods reach S3. Without credentials they use their own identity."""

    endpoint: Endpoint | None = None
    """URL of an S3 server. Default: that of the region."""
    region: ShortString | None = None
    """Region. Default: that of the pod's environment."""
    path_style: bool = False
    """Put the bucket into the path; most S3 servers outside the clouds need it. Default: false."""
    credentials_secret_ref: SecretReference | None = None
    """Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, optionally, AWS_SESSION_TOKEN."""
