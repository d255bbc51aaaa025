"""The shortest LoRAJob that works, and variations of it."""

from typing import Any

from lora_api.lorajob import LoRAJobSpec

SMALLEST: dict[str, Any] = {
    "baseModel": {"uri": "s3://models/base"},
    "dataset": {"train": {"uri": "s3://data/train.jsonl"}},
    "output": {"uri": "s3://adapters"},
}


def with_field(path: str, value: Any, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the spec with the value at a dotted path; objects on the way are made."""
    first, _, rest = path.partition(".")
    spec = dict(SMALLEST if spec is None else spec)
    spec[first] = with_field(rest, value, spec.get(first, {})) if rest else value
    return spec


def parsed(path: str, value: Any) -> LoRAJobSpec:
    """Return the smallest spec with one field set."""
    return LoRAJobSpec.model_validate(with_field(path, value))
