"""LoRAJobSpec: what it refuses, what it fills in, and when two specs ask for the same adapter."""

import pytest
from pydantic import ValidationError

from lora_api.lorajob import LoRAJobSpec
from support.specs import SMALLEST, parsed, with_field


def test_the_shortest_job_has_a_default_for_all_else() -> None:
    spec = LoRAJobSpec.model_validate(SMALLEST)
    assert (spec.lora.rank, spec.lora.alpha, spec.lora.target_modules) == (16, 32, ["all-linear"])
    assert (spec.training.effective_batch_size, spec.training.seed) == (16, 42)
    assert spec.preflight.enabled
    assert spec.adapter.create


@pytest.mark.parametrize(
    ("path", "value", "field", "words"),
    [
        ("lora.rank", 0, "lora.rank", "greater than or equal to 1"),
        ("lora.rnak", 8, "lora.rnak", "Extra inputs"),
        ("baseModel.uri", "ftp://models/base", "baseModel.uri", "write hf://owner/name, s3://bucket/path"),
        ("baseModel.uri", "s3://models", "baseModel.uri", "s3://bucket/path"),
        ("dataset.train.uri", "s3://data/a s3://data/b", "dataset.train.uri", "write one s3://bucket/path"),
        ("output.uri", "https://models", "output.uri", "write s3://bucket"),
        ("training.seed", -1, "training.seed", "greater than or equal to 0"),
        ("resources.memory", "lots", "resources.memory", "pattern"),
    ],
)
def test_a_wrong_value_is_refused_by_name(path: str, value: object, field: str, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        parsed(path, value)
    (error,) = refused.value.errors()
    assert ".".join(map(str, error["loc"])) == field
    assert words in error["msg"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("lora.rank", 16),
        ("suspend", True),
        ("resources.gpus", 4),
        ("scheduling.nodeSelector", {"gpu": "a100"}),
        ("storage.region", "eu-central-1"),
        ("failurePolicy.maxFailures", 9),
        ("ttlSecondsAfterFinished", 60),
        ("pod.labels", {"team": "a"}),
    ],
)
def test_limits_places_and_written_out_defaults_ask_for_the_same_adapter(path: str, value: object) -> None:
    assert parsed(path, value).result_digest() == LoRAJobSpec.model_validate(SMALLEST).result_digest()


@pytest.mark.parametrize(
    ("path", "value"),
    [("lora.rank", 8), ("training.seed", 1), ("dataset.train.uri", "s3://data/b.jsonl"), ("output.uri", "s3://b-2")],
)
def test_a_field_that_decides_the_result_asks_for_another_adapter(path: str, value: object) -> None:
    assert parsed(path, value).result_digest() != LoRAJobSpec.model_validate(SMALLEST).result_digest()


def test_numbers_are_quantities_too() -> None:
    spec = LoRAJobSpec.model_validate(with_field("resources.cpu", 2))
    assert spec.resources.cpu == "2"
