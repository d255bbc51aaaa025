"""The request in a manifest: the same for the same spec, complete, small, and without a secret."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_api.crd import structural
from lora_api.lorajob import LoRAJobSpec
from lora_api.request import REQUEST_FIELDS, public_uri, request_of

SPEC: dict[str, Any] = {
    "baseModel": {"uri": "hf://owner/base"},
    "dataset": {"train": {"uri": "s3://data/train.jsonl"}, "validation": {"fraction": 0.05}},
    "output": {"uri": "s3://models/prefix"},
    "training": {"maxSteps": 30},
}
EVERYTHING = Path(__file__).parents[2] / "golden" / "everything" / "lorajob.yaml"
SIGNED = "https://user:password@files.example/a.jsonl?X-Amz-Signature=signature#fragment"
MANIFEST_BYTES = 8 * 2**20
"""An agent reads no longer manifest."""


def request(**changes: Any) -> Any:
    return request_of(LoRAJobSpec.model_validate(SPEC | changes))


def asks_again(spec: dict[str, Any]) -> bool:
    parsed = LoRAJobSpec.model_validate(spec)
    return LoRAJobSpec.model_validate(request_of(parsed).spec).result_digest() == parsed.result_digest()


def test_it_asks_for_the_same_adapter() -> None:
    assert asks_again(SPEC)
    assert asks_again(yaml.safe_load(EVERYTHING.read_text())["spec"])


@pytest.mark.parametrize(
    "changes",
    [
        {"lora": {"rank": 16, "alpha": 32}},
        {"training": {"seed": 42, "maxSteps": 30}},
        {"task": "CausalLM", "objective": "SFT"},
        {"storage": {"endpoint": "https://s3.example", "credentialsSecretRef": {"name": "keys"}}},
        {"pod": {"image": "own/trainer:2", "env": [{"name": "TOKEN", "value": "secret"}]}},
        {"scheduling": {"serviceAccountName": "trainer"}, "suspend": True, "resources": {"memory": "32Gi"}},
        {"failurePolicy": {"maxFailures": 0}, "deletionPolicy": "Delete", "adapter": {"name": "other"}},
    ],
)
def test_neither_a_default_written_out_nor_what_decides_no_result_changes_it(changes: dict[str, Any]) -> None:
    assert request(**changes).model_dump_json() == request().model_dump_json()


@pytest.mark.parametrize(
    "changes",
    [{"lora": {"rank": 8}}, {"training": {"maxSteps": 31}}, {"resources": {"gpus": 0}}, {"resources": {"nodes": 2}}],
)
def test_what_decides_the_result_changes_it(changes: dict[str, Any]) -> None:
    assert request(**changes) != request()


def test_defaults_are_written_out_and_the_order_is_that_of_the_names() -> None:
    made = request(lora={"rankPattern": {"v_proj": 4, "q_proj": 2}}).spec
    assert made["lora"]["alpha"] == 32.0
    assert json.dumps(made) == json.dumps(made, sort_keys=True)
    assert made.keys() <= REQUEST_FIELDS


def test_a_signature_a_password_and_the_name_of_a_secret_are_withheld() -> None:
    dataset = {
        "train": {"uri": SIGNED},
        "mixture": [{"uri": "s3://data/a"}, {"uri": SIGNED}],
        "validation": {"uri": SIGNED},
    }
    base = {"uri": "hf://owner/base", "tokenSecretRef": {"name": "hub-token"}}
    made = request(baseModel=base, dataset=dataset, evaluation={"retention": {"uri": SIGNED}})
    stored = made.model_dump_json()
    assert [word for word in ("user", "password", "ignature", "fragment", "hub-token") if word in stored] == []
    assert made.spec["dataset"]["train"]["uri"] == "https://files.example/a.jsonl"
    assert sorted(made.withheld) == [
        "baseModel.tokenSecretRef",
        "dataset.mixture[1].uri",
        "dataset.train.uri",
        "dataset.validation.uri",
        "evaluation.retention.uri",
    ]
    LoRAJobSpec.model_validate(made.spec)


def test_no_other_field_of_a_request_names_a_secret() -> None:
    """A field for a Secret that is new among them has to be withheld, too."""
    fields = structural(LoRAJobSpec)["properties"]
    named = [path for name in sorted(REQUEST_FIELDS - {"resources"}) for path in secrets_in(fields[name], name)]
    assert named == ["baseModel.tokenSecretRef"]


def secrets_in(schema: dict[str, Any], path: str) -> list[str]:
    """Return the fields below a schema that name a Secret, by the ends of their names."""
    if path.endswith(("SecretRef", "Secret")):
        return [path]
    below = (schema.get("properties") or {}) | ({"[]": schema["items"]} if "items" in schema else {})
    return [found for name, each in below.items() for found in secrets_in(each, f"{path}.{name}")]


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        ("https://host/a.jsonl", "https://host/a.jsonl"),
        ("https://host:8443/a.jsonl?sig=x", "https://host:8443/a.jsonl"),
        ("https://user:p@ss@host/a@b.jsonl", "https://host/a@b.jsonl"),
        ("https://host?sig=a/b@c", "https://host"),
        ("https://host/a#b?c", "https://host/a"),
        ("https://[2001:db8::1/a?sig=x", "https://[2001:db8::1/a"),
        ("s3://data/part-?.jsonl", "s3://data/part-?.jsonl"),
        ("s3://data/user@example/a#1.jsonl", "s3://data/user@example/a#1.jsonl"),
        ("hf://owner/name/[ab]?.parquet", "hf://owner/name/[ab]?.parquet"),
        ("pvc://claim/a?b", "pvc://claim/a?b"),
    ],
)
def test_only_of_a_web_address_something_is_left_out(uri: str, public: str) -> None:
    assert public_uri(uri) == public


def test_the_largest_request_is_small_beside_what_a_manifest_may_take() -> None:
    name, uri = "\U0001f600" * 253, "s3://data/" + "\U0001f600" * 1014
    columns = {f"{number:02}{name[2:]}": name for number in range(16)}
    source = {"uri": uri, "columns": columns}
    modules = [name] * 64
    spec = {
        "baseModel": {"uri": "s3://models/" + "a" * 1000, "revision": name},
        "dataset": {"train": source, "mixture": [source] * 16, "validation": source},
        "output": {"uri": "s3://models/prefix"},
        "lora": {
            "targetModules": modules,
            "modulesToSave": modules[:16],
            "rankPattern": {f"{number:02}{name[2:]}": 4 for number in range(64)},
        },
        "evaluation": {"retention": source},
    }
    size = len(request_of(LoRAJobSpec.model_validate(spec)).model_dump_json(indent=2).encode())
    assert 600_000 < size < MANIFEST_BYTES / 8
