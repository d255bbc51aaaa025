"""What is wrong with a spec, field by field, with the fix where the types know it: pure."""

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from lora_api.crd import structural
from lora_api.lorajob import LoRAJobSpec

_SHOWN = 5
_NO_SUCH_FIELD = "extra_forbidden"
_MISSING = "missing"
_UNSHOWN = ("pod",)
"""Its environment may hold what is nobody's business."""


def faults(error: ValidationError) -> list[str]:
    """Return a line for each wrong field of a LoRAJobSpec, at most a few."""
    schema = structural(LoRAJobSpec)
    found = error.errors()
    lines = [f"{'.'.join(['spec', *map(str, each['loc'])])}: {_what(each, schema)}" for each in found[:_SHOWN]]
    more = len(found) - _SHOWN
    return lines + ([f"and {more} more"] if more > 0 else [])


def _what(fault: Any, schema: dict[str, Any]) -> str:
    if fault["type"] == _NO_SUCH_FIELD:
        return f"there is no such field; {_instead(str(fault['loc'][-1]), _fields(fault['loc'][:-1], schema))}"
    if fault["type"] == _MISSING:
        return str(fault["msg"])
    value = fault["input"]
    shown = isinstance(value, str | int | float | bool) and fault["loc"][:1] != _UNSHOWN
    return f"{fault['msg']}" + (f", and not {str(value)[:60]!r}" if shown else "")


def _instead(field: str, fields: list[str]) -> str:
    near = difflib.get_close_matches(field, fields, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are {', '.join(fields)}" if fields else "leave it out"


def _fields(place: Sequence[str | int], schema: dict[str, Any]) -> list[str]:
    """Return the fields that are allowed at a place."""
    for step in place:
        if isinstance(step, int):
            schema = schema.get("items") or {}
        else:
            schema = (schema.get("properties") or {}).get(step) or schema.get("additionalProperties") or {}
    return list(schema.get("properties") or {})
