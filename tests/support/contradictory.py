"""Changes of the smallest LoRAJob that it cannot have, as both the API server and the Python types must see them."""

from typing import Any, NamedTuple

VALIDATED = {"train": {"uri": "s3://data/train.jsonl"}, "validation": {"fraction": 0.1}}
_FIX = "set spec.dataset.validation, such as fraction: 0.1"
_CEL_FIX = "set dataset.validation, such as fraction: 0.1"


class Case(NamedTuple):
    """A change of a spec, and what is said to it."""

    change: dict[str, Any]
    field: str
    """What the message in Python begins with."""
    fix: str
    """What the hint in Python says."""
    server: str
    """What the API server says."""


def _measured(**blocks: Any) -> dict[str, Any]:
    return {"dataset": VALIDATED, **blocks}


CASES = {
    "objective without its task": Case(
        {"objective": "DPO", "task": "Seq2SeqLM"},
        "spec.objective: DPO needs task CausalLM, and not Seq2SeqLM",
        "remove spec.objective, or spec.task",
        "objective DPO needs task CausalLM",
    ),
    "epochs and steps": Case(
        {"training": {"epochs": 1, "maxSteps": 5}},
        "spec.training: epochs is 1 and maxSteps is 5",
        "write either epochs or maxSteps, not both",
        "write either epochs or maxSteps, not both",
    ),
    "validation by nothing": Case(
        {"dataset": VALIDATED | {"validation": {}}},
        "spec.dataset.validation: it has neither fraction nor uri",
        "write either fraction",
        "write either fraction",
    ),
    "validation by both": Case(
        {"dataset": VALIDATED | {"validation": {"fraction": 0.1, "uri": "s3://data/b"}}},
        "spec.dataset.validation: it has fraction and uri",
        "write either fraction",
        "write either fraction",
    ),
    "gate without validation": Case(
        {"evaluation": {"gate": {"metric": "evalLoss"}}},
        "spec.evaluation.gate: it asks for evalLoss, and there are no rows to measure on",
        _FIX,
        f"evaluation.gate needs rows to measure on; {_CEL_FIX}",
    ),
    "metrics without validation": Case(
        {"evaluation": {"metrics": ["perplexity", "exactMatch"]}},
        "spec.evaluation.metrics: it asks for perplexity, exactMatch, and there are no rows to measure on",
        _FIX,
        f"evaluation.metrics needs rows to measure on; {_CEL_FIX}",
    ),
    "early stopping without validation": Case(
        {"training": {"earlyStopping": {"patience": 2}}},
        "spec.training.earlyStopping: it goes by the evaluation loss, and there are no rows to measure on",
        _FIX,
        f"training.earlyStopping needs rows to measure on; {_CEL_FIX}",
    ),
    "gate by a metric of another task": Case(
        _measured(evaluation={"gate": {"metric": "accuracy"}}),
        "spec.evaluation.gate.metric: accuracy is no metric of task CausalLM with objective SFT",
        "use evalLoss, perplexity, tokenAccuracy, exactMatch",
        "of task CausalLM with objective SFT there are evalLoss, perplexity, tokenAccuracy, exactMatch",
    ),
    "a metric of another task": Case(
        _measured(task="TokenClassification", evaluation={"metrics": ["accuracy", "macroF1"]}),
        "spec.evaluation.metrics[1]: macroF1 is no metric of task TokenClassification with objective SFT",
        "use evalLoss, accuracy, entityF1",
        "of task TokenClassification with objective SFT there are evalLoss, accuracy, entityF1",
    ),
    "a metric of another objective": Case(
        _measured(objective="DPO", evaluation={"metrics": ["perplexity"]}),
        "spec.evaluation.metrics[0]: perplexity is no metric of task CausalLM with objective DPO",
        "use evalLoss, rewardAccuracy, rewardMargin",
        "of task CausalLM with objective DPO there are evalLoss, rewardAccuracy, rewardMargin",
    ),
    "a metric of the default task": Case(
        _measured(task="CausalLM", objective="SFT", evaluation={"gate": {"metric": "rewardMargin"}}),
        "spec.evaluation.gate.metric: rewardMargin is no metric of task CausalLM with objective SFT",
        "use evalLoss, perplexity",
        "of task CausalLM with objective SFT there are evalLoss",
    ),
}

SOUND: dict[str, dict[str, Any]] = {
    "nothing but the smallest": {},
    "retention, which has rows of its own": {"evaluation": {"retention": {"uri": "s3://data/general.jsonl"}}},
    "no metrics": {"evaluation": {"metrics": []}},
    "stopping with rows": _measured(training={"earlyStopping": {}}),
    "every metric of a language model": _measured(
        evaluation={"metrics": ["evalLoss", "perplexity", "tokenAccuracy", "exactMatch"]}
    ),
    "a translation": _measured(task="Seq2SeqLM", evaluation={"gate": {"metric": "exactMatch"}}),
    "a classification": _measured(task="SequenceClassification", evaluation={"gate": {"metric": "macroF1"}}),
    "preferences": _measured(objective="DPO", evaluation={"gate": {"metric": "rewardMargin"}}),
}
