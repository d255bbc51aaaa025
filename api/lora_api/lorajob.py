"""LoRAJob: one fine-tuning run as a user writes it.

The whole v1alpha1 shape. Defaults live here and nowhere else; they are not written into the CRD, because a default
that the API server fills in shows up as drift in every GitOps tool. What this release does not do yet is refused by
`lora_api.support`, never ignored.
"""

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from lora_api.base import (
    ApiModel,
    FreeObject,
    LongString,
    ObjectName,
    Quantity,
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
        r"^(hf://[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^\s]+|pvc://[a-z0-9.-]+/[^\s]+)$",
        "write hf://owner/name, s3://bucket/path or pvc://claim/path",
    ),
]
DataUri = Annotated[
    str,
    UriRule(
        r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^\s]+|hf://[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?|pvc://[a-z0-9.-]+/[^\s]+|https://[^\s]+)$",
        "write one s3://bucket/path, hf://owner/name, pvc://claim/path or https://host/path",
    ),
]
OutputUri = Annotated[
    str,
    UriRule(
        r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s]+)?$",
        "write s3://bucket or s3://bucket/prefix",
    ),
]
Endpoint = Annotated[str, UriRule(r"^https?://[^\s]+$", "write http://host:port or https://host:port")]


class Task(StrEnum):
    """What the model learns to do."""

    CAUSAL_LM = "CausalLM"
    SEQUENCE_CLASSIFICATION = "SequenceClassification"
    TOKEN_CLASSIFICATION = "TokenClassification"  # noqa: S105 - the name of a task
    SEQ2SEQ_LM = "Seq2SeqLM"


class Objective(StrEnum):
    """What is optimised: supervised fine-tuning or direct preference optimisation."""

    SFT = "SFT"
    DPO = "DPO"


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


class Initialization(StrEnum):
    """How the adapter matrices start."""

    KAIMING = "Kaiming"
    GAUSSIAN = "Gaussian"
    ORTHOGONAL = "Orthogonal"
    PISSA = "PiSSA"
    OLORA = "OLoRA"


class Scheduler(StrEnum):
    """Shape of the learning rate after warm-up."""

    COSINE = "Cosine"
    LINEAR = "Linear"
    CONSTANT = "Constant"


class Precision(StrEnum):
    """Number format of the base model and of the computation. The adapter itself is kept in float32."""

    AUTO = "Auto"
    BF16 = "BF16"
    FP16 = "FP16"
    FP32 = "FP32"


class ActivationCheckpointing(StrEnum):
    """Whether activations are computed again in the backward pass, which saves memory and costs time."""

    AUTO = "Auto"
    ALWAYS = "Always"
    NEVER = "Never"


class DeletionPolicy(StrEnum):
    """What happens to the artifacts when the LoRAJob is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


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
    """Where the rows lie: s3://bucket/path, hf://owner/name, pvc://claim/path or https://host/path."""
    format: DataFormat = DataFormat.AUTO
    """Shape of a row. Default: Auto, which the preflight report explains."""
    columns: Annotated[dict[ShortString, ShortString], Field(max_length=16)] = {}
    """Names of columns that differ from the usual ones, such as prompt: question."""


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
    validation: Validation | None = None
    """Rows to validate on. Default: none, which is fine for a trial and unwise for anything else."""


class Output(ApiModel):
    """Where the artifacts go."""

    uri: OutputUri
    """s3://bucket or s3://bucket/prefix; the namespace and name of the job are added."""


class Lora(ApiModel):
    """The adapter: which modules it changes, and how large it is."""

    rank: Annotated[int, Field(ge=1, le=256)] = 16
    """Inner dimension of the adapter matrices, 4 to 64 usually; keep it within the engine's limit. Default: 16."""
    alpha: Annotated[float, Field(gt=0, le=1024)] = 32
    """Scale of the adapter: its output is multiplied by alpha / rank. Default: 32."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the adapter. Default: 0."""
    target_modules: Annotated[list[ShortString], Field(min_length=1, max_length=64)] = ["all-linear"]
    """Names of the modules to change. Default: all-linear, every linear layer but the output layer."""
    rs_lora: Annotated[bool, Field(alias="rsLoRA")] = False
    """Scale by alpha / sqrt(rank), which keeps high ranks stable. Default: false."""
    do_ra: Annotated[bool, Field(alias="doRA")] = False
    """Weight-decomposed LoRA; most engines cannot serve it unmerged. Default: false."""
    initialization: Initialization = Initialization.KAIMING
    """How the matrices start. Default: Kaiming."""
    modules_to_save: Annotated[list[ShortString], Field(max_length=16)] = []
    """Modules that are trained and saved whole, such as a classification head."""
    rank_pattern: Annotated[dict[ShortString, Annotated[int, Field(ge=1, le=256)]], Field(max_length=64)] = {}
    """Ranks of single modules that differ from rank."""


class Quantization(ApiModel):
    """A quantized base model (QLoRA): less memory, slower steps."""

    bits: Literal[4, 8] = 4
    """Bits a weight. Default: 4."""
    type: Literal["nf4", "fp4"] = "nf4"
    """Number format at 4 bits. Default: nf4."""
    double_quantization: bool = True
    """Quantize the scales too. Default: true."""


class EarlyStopping(ApiModel):
    """Stop when the evaluation loss no longer falls."""

    patience: Annotated[int, Field(ge=1, le=100)] = 3
    """Evaluations without a gain before the run stops. Default: 3."""
    minimum_gain: Annotated[float, Field(ge=0, lt=1)] = 0.001
    """Relative fall of the evaluation loss that counts as a gain. Default: 0.001."""


class Checkpointing(ApiModel):
    """How often the state of training is saved to S3."""

    every: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Optimizer steps between checkpoints. Default: a tenth of the run."""
    keep: Annotated[int, Field(ge=1, le=100)] = 2
    """Number of checkpoints that are kept besides the best. Default: 2."""


class Training(ApiModel):
    """How to train. The micro-batch is chosen, not asked."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("!(has(self.epochs) && has(self.maxSteps))", "write either epochs or maxSteps, not both")
        )
    )

    epochs: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Passes over the data. Default: 2, unless maxSteps is set."""
    max_steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Optimizer steps, instead of epochs."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """Peak learning rate. Default: 0.0002 for SFT, 0.000005 for DPO."""
    scheduler: Scheduler = Scheduler.COSINE
    """Shape of the learning rate after warm-up. Default: Cosine, down to a tenth."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """Share of the steps in which the learning rate rises. Default: 0.03."""
    effective_batch_size: Annotated[int, Field(ge=1, le=65_536)] = 16
    """Rows that one optimizer step learns from, over all devices and micro-batches. Default: 16."""
    max_length: Annotated[int, Field(ge=16, le=1_048_576)] | None = None
    """Longest row in tokens; what is longer is cut. Default: the 99th percentile of the data, at most 4096."""
    packing: bool | None = None
    """Put several rows into one sequence without letting them see each other. Default: chosen by the preflight."""
    precision: Precision = Precision.AUTO
    """Default: Auto, BF16 where the device has it."""
    activation_checkpointing: ActivationCheckpointing = ActivationCheckpointing.AUTO
    """Default: Auto, by the memory estimate."""
    seed: Annotated[int, Field(ge=0, le=2_147_483_647)] = 42
    """Seed of everything random. Default: 42."""
    early_stopping: EarlyStopping | None = None
    """Stop when the evaluation loss no longer falls. Default: off."""
    checkpoint: Checkpointing | None = None
    """How often the state of training is saved."""


class Gate(ApiModel):
    """A condition that the adapter must meet to become a LoRAAdapter."""

    metric: ShortString
    """Name of the metric, such as evalLoss."""
    minimum_gain: Annotated[float, Field(ge=0)] = 0.0
    """How much better than the base model it must be. Default: 0."""


class Evaluation(ApiModel):
    """What is measured besides the evaluation loss."""

    metrics: Annotated[list[ShortString], Field(max_length=16)] = []
    """Names of metrics."""
    gate: Gate | None = None
    """Condition for the LoRAAdapter."""
    retention: DataSource | None = None
    """A general set, measured before and after, that shows what the model forgot."""


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
    served_name: ShortString | None = None
    """Model name that the inference engine answers to. Default: the name of the LoRAAdapter."""


class LoRAJobSpec(ApiModel):
    """What a user asks for."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.objective) || self.objective != 'DPO' || !has(self.task) || self.task == 'CausalLM'",
                "objective DPO needs task CausalLM; remove one of the two",
            )
        )
    )

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

        Two specs with the same digest ask for the same adapter; a different digest means a new run. Defaults are
        part of it, so writing a default out changes nothing.
        """
        dumped: dict[str, Any] = self.model_dump(mode="json", by_alias=True, include=RESULT_FIELDS)
        return hashlib.sha256(json.dumps(dumped, sort_keys=True).encode()).hexdigest()


RESULT_FIELDS = {
    "task", "objective", "base_model", "dataset", "output", "lora", "quantization", "training", "evaluation",
}  # fmt: skip
"""Fields whose change asks for another adapter. Limits, scheduling, storage access and clean-up do not."""
