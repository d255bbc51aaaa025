"""What a task asks of data, model and measurements: one row of a table a task, so that nothing else asks which it is.

Pure, without torch.
"""

from dataclasses import dataclass

from lora_api.lorajob import LoRAJobSpec
from lora_api.sources import DataFormat
from lora_api.training import Metric, Objective, Task


@dataclass(frozen=True)
class TaskRules:
    """What one task, with its objective, asks for."""

    formats: tuple[DataFormat, ...]
    """Formats of rows that it can learn from."""
    auto_model: str
    """Class of transformers that loads the model."""
    peft_task: str
    """PEFT's name of the task."""
    learning_rate: float
    """Peak learning rate when none is asked for: about ten times that of training all weights."""
    metrics: tuple[Metric, ...]
    """What every evaluation gives; `lora_api.training.METRICS` has what it can give besides."""
    whole_modules: bool = False
    """Whether the model gets a new head, which is trained and saved whole."""
    packable: bool = False
    """Whether rows may lie end to end in one sequence."""


_TEXT = (DataFormat.MESSAGES, DataFormat.PROMPT_COMPLETION, DataFormat.INSTRUCTION, DataFormat.TEXT)

_RULES: dict[tuple[Task, Objective], TaskRules] = {
    (Task.CAUSAL_LM, Objective.SFT): TaskRules(
        formats=_TEXT,
        auto_model="AutoModelForCausalLM",
        peft_task="CAUSAL_LM",
        learning_rate=2e-4,
        metrics=(Metric.EVAL_LOSS,),
        packable=True,
    ),
    (Task.CAUSAL_LM, Objective.DPO): TaskRules(
        formats=(DataFormat.PREFERENCE,),
        auto_model="AutoModelForCausalLM",
        peft_task="CAUSAL_LM",
        learning_rate=5e-6,
        metrics=(Metric.EVAL_LOSS, Metric.REWARD_ACCURACY, Metric.REWARD_MARGIN),
        packable=True,
    ),
    (Task.SEQ2SEQ_LM, Objective.SFT): TaskRules(
        formats=(DataFormat.SOURCE_TARGET, DataFormat.PROMPT_COMPLETION, DataFormat.INSTRUCTION),
        auto_model="AutoModelForSeq2SeqLM",
        peft_task="SEQ_2_SEQ_LM",
        learning_rate=2e-4,
        metrics=(Metric.EVAL_LOSS,),
    ),
    (Task.SEQUENCE_CLASSIFICATION, Objective.SFT): TaskRules(
        formats=(DataFormat.CLASSIFICATION,),
        auto_model="AutoModelForSequenceClassification",
        peft_task="SEQ_CLS",
        learning_rate=3e-4,
        metrics=(Metric.EVAL_LOSS, Metric.ACCURACY, Metric.MACRO_F1),
        whole_modules=True,
    ),
    (Task.TOKEN_CLASSIFICATION, Objective.SFT): TaskRules(
        formats=(DataFormat.TAGGING,),
        auto_model="AutoModelForTokenClassification",
        peft_task="TOKEN_CLS",
        learning_rate=3e-4,
        metrics=(Metric.EVAL_LOSS, Metric.ACCURACY, Metric.ENTITY_F1),
        whole_modules=True,
    ),
}


def rules_of(spec: LoRAJobSpec) -> TaskRules:
    """Return the rules of a job's task. Of the pairs that have none `check_request` has refused the job."""
    return _RULES[spec.task, spec.objective]
