"""The CRDs keep to what a structural schema may hold, and to the limits of Kubernetes."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lora_api.crd import all_crds

MAX_ANNOTATION_BYTES = 262_144
"""Client-side `kubectl apply` keeps the whole object in an annotation of at most this size."""


def schemas(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema below a node with its path."""
    if not isinstance(node, dict):
        return
    if "type" in node and isinstance(node["type"], str):
        yield path, node
    for name, each in node.get("properties", {}).items():
        yield from schemas(each, f"{path}.{name}")
    yield from schemas(node.get("items"), f"{path}[]")
    yield from schemas(node.get("additionalProperties"), f"{path}{{}}")


@pytest.fixture(params=sorted(all_crds()))
def crd(request: pytest.FixtureRequest) -> dict[str, Any]:
    return all_crds()[request.param]


def root(crd: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def test_it_stays_far_under_the_annotation_limit(crd: dict[str, Any]) -> None:
    assert len(json.dumps(crd)) < MAX_ANNOTATION_BYTES / 4


def test_every_string_list_and_map_of_the_spec_is_bounded(crd: dict[str, Any]) -> None:
    unbounded = [
        path
        for path, schema in schemas(root(crd)["properties"]["spec"], "spec")
        if (schema["type"] == "string" and not schema.keys() & {"maxLength", "enum"})
        or (schema["type"] == "array" and "maxItems" not in schema)
        or (schema["type"] == "object" and "additionalProperties" in schema and "maxProperties" not in schema)
    ]
    assert unbounded == []


def test_every_field_of_the_spec_is_explained(crd: dict[str, Any]) -> None:
    spec = root(crd)["properties"]["spec"]
    silent = [path for path, schema in schemas(spec, "spec") if path[-1] not in "]}" and "description" not in schema]
    assert silent == []


def test_the_api_server_fills_in_no_defaults(crd: dict[str, Any]) -> None:
    assert not [path for path, schema in schemas(root(crd)) if "default" in schema]


def test_conditions_are_a_map_by_type(crd: dict[str, Any]) -> None:
    conditions = root(crd)["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def test_names_and_columns() -> None:
    names = {kind: crd["spec"]["names"] for kind, crd in all_crds().items()}
    assert names["lorajobs"]["shortNames"] == ["lj"]
    assert names["loraadapters"]["shortNames"] == ["la"]
    columns = all_crds()["lorajobs"]["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [each["name"] for each in columns if each["priority"] == 0] == [
        "Phase", "Reason", "Progress", "Loss", "Adapter", "Age",
    ]  # fmt: skip
    assert [each["name"] for each in columns if each["priority"] == 1] == [
        "Base", "ETA", "Checkpoint",
    ]  # fmt: skip
