"""Reads JSON that a trainer pod wrote, without the numbers that the API server does not take.

Python writes NaN and Infinity, and a loss that diverges is just such a number; an image of the user may write integers
of any length. They are left out, so that one bad number can never block a status.
"""

import json
import math
from typing import Any

_LARGEST = 2**63


def load_finite(text: str | bytes) -> Any:
    """Return the parsed JSON without entries that are null, NaN, infinite, or integers of more than 64 bits.

    Raises ValueError for anything else.
    """
    try:
        return _pruned(json.loads(text, parse_constant=lambda _: None, parse_float=_finite, parse_int=_bounded))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _bounded(text: str) -> int | None:
    number = int(text)
    return number if -_LARGEST <= number < _LARGEST else None


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _pruned(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_pruned(each) for each in value if each is not None]
    return value
