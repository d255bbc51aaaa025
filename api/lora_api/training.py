"""Parts of a LoRAJob: what the model learns, the adapter's shape, and how it is trained and measured."""

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from lora_api.base import (
    ApiModel,
    ShortString,
    rule,
    rules,
)
from lora_api.sources import DataSource


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
    """Optimizer steps between checkpoints. Default: a tenth of the run or ten minutes, whichever is first."""
    keep: Annotated[int, Field(ge=1, le=100)] = 2
    """Number of newest checkpoints that are kept; each also holds the best weights so far. Default: 2."""


class Distribution(StrEnum):
    """How several devices share the base model."""

    AUTO = "Auto"
    REPLICATED = "Replicated"
    """Each device holds all of it (DDP)."""
    SHARDED = "Sharded"
    """Each device holds a part of it (FSDP2)."""


class PreferenceLoss(StrEnum):
    """Loss of direct preference optimisation."""

    SIGMOID = "Sigmoid"
    IPO = "IPO"
    HINGE = "Hinge"


class Preference(ApiModel):
    """Direct preference optimisation: the reference is the base model without the adapter."""

    beta: Annotated[float, Field(gt=0, le=10)] = 0.1
    """How strongly the model is held to the reference. Default: 0.1."""
    loss: PreferenceLoss = PreferenceLoss.SIGMOID
    """Default: Sigmoid."""


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
    """Peak learning rate. Default: 0.0002, 0.0003 for the classification tasks, 0.000005 for DPO."""
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
    """Stop when the evaluation loss no longer falls; needs dataset.validation. Default: off."""
    checkpoint: Checkpointing | None = None
    """How often the state of training is saved. Default: a tenth of the run or ten minutes, whichever is first."""
    distribution: Distribution = Distribution.AUTO
    """How several devices share the base model. Default: Auto, Sharded where the base does not fit one device."""
    preference: Preference | None = None
    """Settings of objective DPO."""


class Metric(StrEnum):
    """A number that an evaluation gives; the name is its key in status.adapter.metrics."""

    EVAL_LOSS = "evalLoss"
    PERPLEXITY = "perplexity"
    TOKEN_ACCURACY = "tokenAccuracy"  # noqa: S105 - the name of a metric
    """Share of learned tokens that the model would have written itself."""
    EXACT_MATCH = "exactMatch"
    """Share of rows of which it would have written every learned token."""
    ACCURACY = "accuracy"
    MACRO_F1 = "macroF1"
    ENTITY_F1 = "entityF1"
    """F1 of whole entities, of token classification."""
    REWARD_ACCURACY = "rewardAccuracy"
    """Share of preference pairs whose chosen answer gained more than the rejected one."""
    REWARD_MARGIN = "rewardMargin"


_LANGUAGE = (Metric.EVAL_LOSS, Metric.PERPLEXITY, Metric.TOKEN_ACCURACY, Metric.EXACT_MATCH)

METRICS: Final[dict[tuple[Task, Objective], tuple[Metric, ...]]] = {
    (Task.CAUSAL_LM, Objective.SFT): _LANGUAGE,
    (Task.CAUSAL_LM, Objective.DPO): (Metric.EVAL_LOSS, Metric.REWARD_ACCURACY, Metric.REWARD_MARGIN),
    (Task.SEQ2SEQ_LM, Objective.SFT): _LANGUAGE,
    (Task.SEQUENCE_CLASSIFICATION, Objective.SFT): (Metric.EVAL_LOSS, Metric.ACCURACY, Metric.MACRO_F1),
    (Task.TOKEN_CLASSIFICATION, Objective.SFT): (Metric.EVAL_LOSS, Metric.ACCURACY, Metric.ENTITY_F1),
}
"""Metrics that an evaluation of a task can give. A pair that is not here is not trained."""


class Gate(ApiModel):
    """A condition that the adapter must meet to become a LoRAAdapter."""

    metric: Metric
    """Name of a metric of the task, such as evalLoss. Losses and perplexity must fall, all others rise."""
    minimum_gain: Annotated[float, Field(ge=0)] = 0.0
    """How much better than the base model it must be, in the unit of the metric. Default: 0."""


class Evaluation(ApiModel):
    """What is measured besides the evaluation loss."""

    metrics: Annotated[list[Metric], Field(max_length=16)] = []
    """Metrics besides those that the task always gives; needs dataset.validation."""
    gate: Gate | None = None
    """Condition for the LoRAAdapter; needs dataset.validation."""
    retention: DataSource | None = None
    """A general set, measured before and after, that shows what the model forgot."""
