"""A field whose behaviour is not there yet is refused by name, never ignored."""

import pytest

from lora_api.lorajob import LoRAJobSpec
from lora_api.support import unsupported_fields
from support.specs import SMALLEST, parsed


def test_the_shortest_job_is_supported() -> None:
    assert unsupported_fields(LoRAJobSpec.model_validate(SMALLEST)) == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("resources.nodes", 2, "spec.resources.nodes: 2"),
        ("scheduling.queueName", "team-a", "spec.scheduling.queueName: team-a"),
        ("suspend", True, "spec.suspend: True"),
        ("failurePolicy.activeDeadlineSeconds", 60, "spec.failurePolicy.activeDeadlineSeconds: 60"),
        ("ttlSecondsAfterFinished", 0, "spec.ttlSecondsAfterFinished: 0"),
        ("deletionPolicy", "Delete", "spec.deletionPolicy: Delete is not supported yet; use Retain"),
    ],
)
def test_a_field_without_behaviour_is_named_with_its_value_and_the_fix(path: str, value: object, said: str) -> None:
    (refused,) = unsupported_fields(parsed(path, value))
    assert str(refused).startswith(said)
    assert refused.fix


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("task", "SequenceClassification"),
        ("baseModel.uri", "hf://owner/name"),
        ("baseModel.tokenSecretRef", {"name": "hub"}),
        ("baseModel.cacheClaimName", "bases"),
        ("dataset.train.uri", "pvc://claim/train.jsonl"),
        ("dataset.train.uri", "hf://owner/name/data/*.parquet"),
        ("dataset.validation", {"uri": "https://x/y.jsonl"}),
        ("objective", "DPO"),
        ("dataset.train.format", "Text"),
        ("dataset.train.columns", {"prompt": "q"}),
        ("lora.doRA", True),
        ("lora.initialization", "PiSSA"),
        ("quantization", {"bits": 4}),
        ("training.packing", True),
        ("training.earlyStopping", {}),
        ("evaluation", {"metrics": ["accuracy"]}),
        ("resources.gpus", 8),
        ("lora.rsLoRA", True),
        ("lora.rankPattern", {"q_proj": 4}),
        ("lora.targetModules", ["q_proj"]),
        ("training.maxSteps", 10),
        ("dataset.validation", {"fraction": 0.1}),
        ("scheduling.tolerations", [{"key": "gpu", "operator": "Exists"}]),
    ],
)
def test_what_works_passes(path: str, value: object) -> None:
    assert unsupported_fields(parsed(path, value)) == []
