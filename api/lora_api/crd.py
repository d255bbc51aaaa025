"""CustomResourceDefinitions, generated from the types.

Pydantic's JSON schema is turned into the structural subset that the API server accepts: references inlined, "or null"
removed (absent and null mean the same there), no titles and no defaults. `make generate` writes
them into manifests/; `make verify` fails when the files in the tree differ.
"""

from typing import Any

from lora_api.base import ApiModel, StatusModel, rule
from lora_api.loraadapter import LoRAAdapterSpec, LoRAAdapterStatus
from lora_api.lorajob import LoRAJobSpec
from lora_api.lorajob_status import LoRAJobStatus
from lora_api.names import CATEGORY, GROUP, VERSION

Schema = dict[str, Any]

MAX_JOB_NAME = 45
"""A child's name is <name>-<run>-preflight, and a Job name may have 63 characters."""

_DNS_LABEL = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

_DROPPED = frozenset(
    {
        "title",
        "default",
        "additionalProperties",
        "$defs",
        "const",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "propertyNames",
    }
)


def lorajob_crd() -> Schema:
    """Return the CRD of LoRAJob."""
    name_rules = [
        rule(
            f"size(self.metadata.name) <= {MAX_JOB_NAME} && self.metadata.name.matches('{_DNS_LABEL}')",
            f"metadata.name: use at most {MAX_JOB_NAME} lower-case letters, digits and dashes",
        )
    ]
    columns = [
        _column("Phase", ".status.phase"),
        _column("Reason", ".status.reason"),
        _column("Progress", ".status.progress.percent", kind="number", description="Percent of the steps"),
        _column("Loss", ".status.progress.loss", kind="number"),
        _column("Adapter", ".status.adapterDigestShort", description="Digest of the published adapter"),
        _column("Age", ".metadata.creationTimestamp", kind="date"),
        _column("Base", ".spec.baseModel.uri", wide=True),
        _column("ETA", ".status.progress.etaTime", wide=True),
        _column("Checkpoint", ".status.checkpoint.step", kind="integer", wide=True),
    ]
    return _crd("LoRAJob", ["lj"], LoRAJobSpec, LoRAJobStatus, columns, name_rules)


def loraadapter_crd() -> Schema:
    """Return the CRD of LoRAAdapter."""
    columns = [
        _column("Served name", ".spec.servedName"),
        _column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        _column("Pods", ".status.servedPods", description="Pods that serve it, of those that ask for it"),
        _column("Version", ".status.digestShort", description="Digest that is to be served"),
        _column("Age", ".metadata.creationTimestamp", kind="date"),
        _column("Reason", ".status.conditions[?(@.type=='Ready')].reason", wide=True),
        _column("Base", ".spec.baseModel.name", wide=True),
        _column("URI", ".spec.source.uri", wide=True),
    ]
    name_rules = [
        rule(
            "size(self.metadata.name) <= 63", "metadata.name: use at most 63 characters, as clients write it as a model"
        )
    ]
    return _crd("LoRAAdapter", ["la"], LoRAAdapterSpec, LoRAAdapterStatus, columns, name_rules)


def all_crds() -> dict[str, Schema]:
    """Return every CRD by its plural name."""
    return {"lorajobs": lorajob_crd(), "loraadapters": loraadapter_crd()}


def structural(model: type[ApiModel] | type[StatusModel]) -> Schema:
    """Return the structural schema of a type."""
    schema = model.model_json_schema(by_alias=True)
    return _structural(schema, schema.get("$defs", {}))


def _structural(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    schema = _resolved(schema, definitions)
    result: Schema = {key: value for key, value in schema.items() if key not in _DROPPED}
    if schema.get("x-kubernetes-int-or-string"):
        return result
    if "properties" in schema:
        result["properties"] = {name: _structural(each, definitions) for name, each in schema["properties"].items()}
    if "items" in schema:
        result["items"] = _structural(schema["items"], definitions)
    if isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = _structural(schema["additionalProperties"], definitions)
    if "const" in schema:
        result["enum"] = [schema["const"]]
    return result | _exclusive_bounds(schema)


def _resolved(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """Return the schema with its reference followed and its "or null" removed; outer keys win over inner ones."""
    schema = dict(schema)
    while True:
        alternatives = schema.get("anyOf", [])
        if "$ref" in schema:
            inner = definitions[schema.pop("$ref").removeprefix("#/$defs/")]
        elif {"type": "null"} in alternatives:
            (inner,) = (each for each in schema.pop("anyOf") if each != {"type": "null"})
        elif len(schema.get("allOf", [])) == 1:
            (inner,) = schema.pop("allOf")
        else:
            return schema
        schema = {**inner, **schema}


def _exclusive_bounds(schema: Schema) -> Schema:
    """Return exclusive bounds as OpenAPI 3.0 writes them: the bound, and a flag beside it."""
    bounds: Schema = {}
    if "exclusiveMinimum" in schema:
        bounds |= {"minimum": schema["exclusiveMinimum"], "exclusiveMinimum": True}
    if "exclusiveMaximum" in schema:
        bounds |= {"maximum": schema["exclusiveMaximum"], "exclusiveMaximum": True}
    return bounds


def _column(
    name: str, path: str, *, kind: str = "string", wide: bool = False, description: str | None = None
) -> Schema:
    column: Schema = {"name": name, "type": kind, "jsonPath": path, "priority": 1 if wide else 0}
    return column | ({"description": description} if description else {})


def _crd(
    kind: str,
    short_names: list[str],
    spec: type[ApiModel],
    status: type[StatusModel],
    columns: list[Schema],
    object_rules: list[dict[str, str]],
) -> Schema:
    singular, plural = kind.lower(), f"{kind.lower()}s"
    schema: Schema = {
        "type": "object",
        "description": (spec.__doc__ or "").strip(),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(spec),
            "status": structural(status),
        },
    }
    if object_rules:
        schema["x-kubernetes-validations"] = object_rules
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "singular": singular,
                "plural": plural,
                "shortNames": short_names,
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }
