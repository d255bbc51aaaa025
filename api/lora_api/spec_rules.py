"""Rules between the fields of a LoRAJob's spec, in CEL, for the API server.

`contradictions` has the same in Python, for whoever reads a spec that no API server has seen. Each message names the
field and says what to write instead.
"""

from typing import Final

from lora_api.base import rule
from lora_api.training import METRICS, Metric, Objective, Task

VALIDATE: Final = "set dataset.validation, such as fraction: 0.1"
"""What mends a spec that measures without rows to measure on."""


def _default_or(field: str, value: str, default: str) -> str:
    """Return the CEL of: the field, or its default where it is left out, is the value."""
    is_value = f"self.{field} == '{value}'"
    return f"(!has(self.{field}) || {is_value})" if value == default else f"(has(self.{field}) && {is_value})"


def _metrics_rule(task: Task, objective: Objective, metrics: tuple[Metric, ...]) -> dict[str, str]:
    """Return the rule that a job of a task asks for its own metrics only."""
    known = "[" + ", ".join(f"'{each.value}'" for each in metrics) + "]"
    applies = (
        f"{_default_or('task', task.value, Task.CAUSAL_LM.value)} && "
        f"{_default_or('objective', objective.value, Objective.SFT.value)} && has(self.evaluation)"
    )
    gate = f"(!has(self.evaluation.gate) || self.evaluation.gate.metric in {known})"
    asked = f"(!has(self.evaluation.metrics) || self.evaluation.metrics.all(each, each in {known}))"
    names = ", ".join(each.value for each in metrics)
    return rule(
        f"!({applies}) || ({gate} && {asked})",
        f"evaluation.gate.metric and evaluation.metrics: of task {task.value} with objective {objective.value} "
        f"there are {names}",
    )


SPEC_RULES: Final = (
    rule(
        "!has(self.objective) || self.objective != 'DPO' || !has(self.task) || self.task == 'CausalLM'",
        "objective DPO needs task CausalLM; remove one of the two",
    ),
    rule(
        "has(self.dataset.validation) || !has(self.evaluation) || !has(self.evaluation.gate)",
        f"evaluation.gate needs rows to measure on; {VALIDATE}",
    ),
    rule(
        "has(self.dataset.validation) || !has(self.evaluation) || !has(self.evaluation.metrics) "
        "|| size(self.evaluation.metrics) == 0",
        f"evaluation.metrics needs rows to measure on; {VALIDATE}",
    ),
    rule(
        "has(self.dataset.validation) || !has(self.training) || !has(self.training.earlyStopping)",
        f"training.earlyStopping needs rows to measure on; {VALIDATE}",
    ),
    *(_metrics_rule(task, objective, metrics) for (task, objective), metrics in METRICS.items()),
)
