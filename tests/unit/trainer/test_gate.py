"""Whether the metrics of an adapter pass the gate of its job, and what a job may ask for before there are any."""

import pytest

from lora_api.lorajob import LoRAJobSpec
from lora_api.training import METRICS, Gate
from lora_trainer.errors import TrainerError
from lora_trainer.request import check_request
from lora_trainer.tasks import rules_of
from lora_trainer.train import missed_gate
from support.specs import SMALLEST

LOSSES = {"baseEvalLoss": 2.0, "evalLoss": 1.5}
HITS = {"baseTokenAccuracy": 0.5, "tokenAccuracy": 0.75}
NOT_MEASURED = "spec.evaluation.gate asks for perplexity, which the run has not measured before and after"


@pytest.mark.parametrize(
    ("gate", "metrics", "missed"),
    [
        ({"metric": "evalLoss"}, LOSSES, ""),
        ({"metric": "evalLoss", "minimumGain": 0.5}, LOSSES, ""),
        (
            {"metric": "evalLoss", "minimumGain": 0.6},
            LOSSES,
            "evalLoss went from 2 to 1.5, and spec.evaluation.gate asks for a gain of 0.6",
        ),
        ({"metric": "tokenAccuracy", "minimumGain": 0.25}, HITS, ""),
        (
            {"metric": "tokenAccuracy"},
            {"baseTokenAccuracy": 0.75, "tokenAccuracy": 0.5},
            "tokenAccuracy went from 0.75 to 0.5, and spec.evaluation.gate asks for a gain of 0",
        ),
        ({"metric": "evalLoss"}, {"baseEvalLoss": 2.0, "evalLoss": float("nan")}, "went from 2 to nan"),
        ({"metric": "perplexity"}, LOSSES, NOT_MEASURED),
        ({"metric": "perplexity"}, LOSSES | {"perplexity": 4.0}, NOT_MEASURED),
        ({"metric": "perplexity"}, {}, NOT_MEASURED),
    ],
)
def test_a_gate_is_passed_by_what_was_measured_before_and_after(gate, metrics, missed):
    said = missed_gate(Gate.model_validate(gate), metrics)
    assert missed in said
    assert bool(said) is bool(missed)


@pytest.mark.parametrize("pair", METRICS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_every_task_has_rules_and_always_gives_metrics_that_it_can(pair):
    task, objective = pair
    spec = LoRAJobSpec.model_validate(SMALLEST | {"task": task, "objective": objective})
    check_request(spec)
    assert set(rules_of(spec).metrics) <= set(METRICS[pair])


def test_a_request_is_refused_with_all_that_is_wrong_and_each_fix_once():
    spec = LoRAJobSpec.model_validate(
        SMALLEST | {"evaluation": {"gate": {"metric": "accuracy"}}, "training": {"earlyStopping": {}}}
    )
    with pytest.raises(TrainerError) as caught:
        check_request(spec)
    assert caught.value.message.count("there are no rows to measure on") == 2
    assert caught.value.hint == (
        "set spec.dataset.validation, such as fraction: 0.1; use evalLoss, perplexity, tokenAccuracy, exactMatch"
    )
