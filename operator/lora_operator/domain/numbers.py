"""Reads JSON that a trainer pod wrote, without the numbers that JSON does not have.

Python writes NaN and Infinity, the API server refuses them, and a loss that diverges is just such a number. They are
left out, so that one bad number can never block a status.
"""

import json
import math
from typing import Any


def load_finite(text: str | bytes) -> Any:
    """Return the parsed JSON with null, NaN and infinite entries left out. Raises ValueError for anything else."""
    try:
        return _pruned(json.loads(text, parse_constant=lambda _: None, parse_float=_finite))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _pruned(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_pruned(each) for each in value if each is not None]
    return value
