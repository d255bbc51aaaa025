"""Takes out of a spec what a page must not show. Pure.

Whoever may see the page need not be the one who may read the object, so values that could open something are replaced
before anything is stored: values of environment variables, and the query and the user part of a URL.
"""

from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

MASK: Final = "•••"
_MAX_DEPTH: Final = 24
"""Deeper than any spec of ours; what users pass on as it is (affinity) may be nested without bound."""


def mask_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the spec without values of environment variables and secrets within URLs."""
    masked: dict[str, Any] = _mask(spec, _MAX_DEPTH)
    pod = masked.get("pod")
    if isinstance(pod, dict) and isinstance(pod.get("env"), list):
        masked["pod"] = pod | {"env": [_mask_variable(each) for each in pod["env"]]}
    return masked


def mask_url(text: str) -> str:
    """Return a text; of a URL without the query, the fragment and the user, which may hold a signature or a key."""
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        return MASK
    host = parts.netloc.rpartition("@")[2]
    user = f"{MASK}@" if "@" in parts.netloc else ""
    bare = urlunsplit((parts.scheme, user + host, parts.path, "", ""))
    return f"{bare}?{MASK}" if parts.query or parts.fragment else bare


def _mask_variable(variable: Any) -> Any:
    """Return a variable with its name, and where the value comes from, if it is not in the spec itself."""
    if not isinstance(variable, dict):
        return MASK
    return {key: MASK if key == "value" else value for key, value in variable.items()}


def _mask(value: Any, depth: int) -> Any:
    if depth == 0:
        return MASK
    if isinstance(value, dict):
        return {key: _mask(each, depth - 1) for key, each in value.items()}
    if isinstance(value, list):
        return [_mask(each, depth - 1) for each in value]
    return mask_url(value) if isinstance(value, str) else value
