"""JSON schemas of Kubernetes' own types, such as Affinity, from the models of the official client.

So a slip within a value that is passed on, such as `tolerations`, is found before anything is installed. Pure. There
are no descriptions in them: those are Kubernetes' to give.
"""

from typing import Any

from kubernetes.client import models
from pydantic.json_schema import models_json_schema

Schema = dict[str, Any]

_PREFIX = "#/$defs/"
_WORDS = ("description", "title", "default")
_QUANTITY = {"type": ["string", "number"]}


def kubernetes_definitions(names: set[str]) -> dict[str, Schema]:
    """Return the schemas of some types and of all that they are made of, by their names without `V1`."""
    chosen = [(getattr(models, f"V1{name}"), "validation") for name in sorted(names)]
    _, schema = models_json_schema(chosen, by_alias=True)  # type: ignore[arg-type]
    found = {_short(name): plain(each) for name, each in schema.get("$defs", {}).items()}
    if "ResourceRequirements" in found:  # quantities, which people write as numbers, too
        for each in ("limits", "requests"):
            found["ResourceRequirements"]["properties"][each]["additionalProperties"] = _QUANTITY
    return found


def plain(schema: Any) -> Any:
    """Return a schema as somebody would write it: without null for what may be left out, titles and descriptions."""
    if isinstance(schema, list):
        return [plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    options = [each for each in schema.get("anyOf", []) if each != {"type": "null"}]
    if len(options) == 1:
        return plain(options[0])
    kept = {key: value for key, value in schema.items() if key not in _WORDS or isinstance(value, dict)}
    if options:
        kept["anyOf"] = options
    if "$ref" in kept:
        kept["$ref"] = _PREFIX + _short(kept["$ref"].removeprefix(_PREFIX))
    return {key: plain(value) for key, value in kept.items()}


def _short(name: str) -> str:
    return name.removeprefix("V1")
