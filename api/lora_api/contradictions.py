"""What a LoRAJob's spec asks for and cannot have, by rules between its fields: pure.

The API server refuses the same by the CEL of `spec_rules` and of the types. A file that no API server has seen, and an
object that is older than a rule, are checked here.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from lora_api.lorajob import LoRAJobSpec
from lora_api.spec_rules import VALIDATE
from lora_api.training import METRICS, Task

_VALIDATE = VALIDATE.replace("dataset.", "spec.dataset.", 1)


class Contradiction(NamedTuple):
    """One rule that a spec breaks."""

    message: str
    """Begins with the field, and names its value."""
    hint: str
    """What to write instead."""


def contradictions(spec: LoRAJobSpec) -> list[Contradiction]:
    """Return what a spec contradicts itself in, the first cause first; empty for a spec that can be met."""
    return [found for rule in _RULES for found in rule(spec)]


def _objective(spec: LoRAJobSpec) -> Iterator[Contradiction]:
    if (spec.task, spec.objective) not in METRICS:
        message = f"spec.objective: {spec.objective.value} needs task {Task.CAUSAL_LM.value}, and not {spec.task.value}"
        yield Contradiction(message, "remove spec.objective, or spec.task")


def _length(spec: LoRAJobSpec) -> Iterator[Contradiction]:
    training = spec.training
    if training.epochs is not None and training.max_steps is not None:
        message = f"spec.training: epochs is {training.epochs:g} and maxSteps is {training.max_steps}"
        yield Contradiction(message, "write either epochs or maxSteps, not both")


def _validation(spec: LoRAJobSpec) -> Iterator[Contradiction]:
    asked = spec.dataset.validation
    if asked is not None and (asked.fraction is None) is (asked.uri is None):
        what = "it has neither fraction nor uri" if asked.uri is None else "it has fraction and uri"
        hint = "write either fraction (a share of the training rows) or uri (a set of its own), not both"
        yield Contradiction(f"spec.dataset.validation: {what}", hint)


def _rows_to_measure_on(spec: LoRAJobSpec) -> Iterator[Contradiction]:
    """Yield what would measure, stop or decide by the validation rows of a job that has none."""
    if spec.dataset.validation is not None:
        return
    evaluation = spec.evaluation
    if evaluation and evaluation.gate:
        yield _without_rows("evaluation.gate", f"it asks for {evaluation.gate.metric.value}")
    if evaluation and evaluation.metrics:
        names = ", ".join(each.value for each in evaluation.metrics)
        yield _without_rows("evaluation.metrics", f"it asks for {names}")
    if spec.training.early_stopping:
        yield _without_rows("training.earlyStopping", "it goes by the evaluation loss")


def _without_rows(field: str, why: str) -> Contradiction:
    return Contradiction(f"spec.{field}: {why}, and there are no rows to measure on", _VALIDATE)


def _metrics_of_the_task(spec: LoRAJobSpec) -> Iterator[Contradiction]:
    known = METRICS.get((spec.task, spec.objective))
    if known is None or spec.evaluation is None:
        return
    gate = spec.evaluation.gate
    asked = [("gate.metric", gate.metric)] if gate else []
    asked += [(f"metrics[{number}]", each) for number, each in enumerate(spec.evaluation.metrics)]
    for field, metric in asked:
        if metric not in known:
            message = (
                f"spec.evaluation.{field}: {metric.value} is no metric of task {spec.task.value} "
                f"with objective {spec.objective.value}"
            )
            yield Contradiction(message, f"use {', '.join(each.value for each in known)}")


_RULES: tuple[Callable[[LoRAJobSpec], Iterator[Contradiction]], ...] = (
    _objective,
    _length,
    _validation,
    _rows_to_measure_on,
    _metrics_of_the_task,
)
