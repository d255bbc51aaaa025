"""What a spec asks for and cannot have is named by field, with the fix, before anybody reads a model or a row."""

from typing import Any

import pytest

from lora_api.contradictions import contradictions
from lora_api.lorajob import LoRAJobSpec
from lora_api.training import METRICS, Metric, Objective, Task
from support.contradictory import CASES, SOUND, VALIDATED, Case
from support.specs import SMALLEST


def spec(change: dict[str, Any]) -> LoRAJobSpec:
    return LoRAJobSpec.model_validate(SMALLEST | change)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_contradiction_is_named_with_field_value_and_fix(case: Case) -> None:
    (found,) = contradictions(spec(case.change))
    assert found.message.startswith(case.field)
    assert case.fix in found.hint


@pytest.mark.parametrize("change", SOUND.values(), ids=SOUND)
def test_a_spec_that_can_be_met_has_none(change: dict[str, Any]) -> None:
    assert contradictions(spec(change)) == []


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("pair", METRICS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_a_gate_may_go_by_the_metrics_of_its_task_alone(pair: tuple[Task, Objective], metric: Metric) -> None:
    task, objective = pair
    gated = spec(
        {"task": task, "objective": objective, "dataset": VALIDATED, "evaluation": {"gate": {"metric": metric}}}
    )
    assert (contradictions(gated) == []) is (metric in METRICS[pair])


def test_all_contradictions_of_a_spec_are_told() -> None:
    evaluation = {"gate": {"metric": "accuracy"}, "metrics": ["perplexity"]}
    found = contradictions(spec({"evaluation": evaluation, "training": {"earlyStopping": {}}}))
    assert [each.message.partition(":")[0] for each in found] == [
        "spec.evaluation.gate",
        "spec.evaluation.metrics",
        "spec.training.earlyStopping",
        "spec.evaluation.gate.metric",
    ]
