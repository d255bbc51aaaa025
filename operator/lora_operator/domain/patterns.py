"""Patterns for places and names: which images, URIs, endpoints and objects an administrator allows.

Only `*` is special, and it never reaches further than a reader of the pattern expects:

- As the whole last part it stands for everything below: `s3://models/*`.
- In the first part of a place (bucket, owner, claim, host) it stands for letters, digits, `-` and `_`. A dot, a port, a
  user name or a query there would lead to another host.
- Anywhere else it stands for anything without a slash.

Pure text. A value that climbs (`..`, also percent-encoded or after a backslash) matches nothing but `*`, because what
it means depends on who reads it.
"""

import re
from functools import lru_cache
from typing import Annotated, Final
from urllib.parse import unquote

from pydantic import AfterValidator, StringConstraints

_ANY: Final = "*"
_SCHEME: Final = re.compile(r"^[a-z][a-z0-9]*://")
_SCHEMES: Final = ("hf://", "s3://", "pvc://", "https://", "http://")
_NOT_SPECIAL: Final = re.compile(r"[?\[\]{}\\\s]|\*\*")


def matches(pattern: str, value: str) -> bool:
    """Return whether a value is one that the pattern stands for."""
    if pattern == _ANY:
        return True
    return not _climbs(value) and _compiled(pattern).fullmatch(value) is not None


def matches_any(patterns: tuple[str, ...], value: str) -> bool:
    """Return whether one of the patterns stands for the value."""
    return any(matches(pattern, value) for pattern in patterns)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    scheme = _SCHEME.match(pattern)
    start = scheme.end() if scheme else 0
    parts = pattern[start:].split("/")
    has_host = scheme is not None or len(parts) > 1
    expressions = [
        _part(part, r"[A-Za-z0-9_-]*" if has_host and not index else "[^/]*") for index, part in enumerate(parts)
    ]
    if parts[-1] == _ANY:
        expressions[-1] = ".+"
    return re.compile(re.escape(pattern[:start]) + "/".join(expressions))


def _part(part: str, star: str) -> str:
    return star.join(re.escape(piece) for piece in part.split(_ANY))


def _climbs(value: str) -> bool:
    while (decoded := unquote(value)) != value:
        value = decoded
    return not {".", ".."}.isdisjoint(value.replace("\\", "/").split("/"))


def _check(pattern: str) -> str:
    if _NOT_SPECIAL.search(pattern):
        raise ValueError("only * is special, and a final /* covers everything below; write s3://models/* for a bucket")
    if _climbs(pattern):
        raise ValueError("write the place itself, without . and .. in it")
    return pattern


def _check_uri(pattern: str) -> str:
    if pattern != _ANY and not pattern.startswith(_SCHEMES):
        raise ValueError(f"write a URI that starts with one of {' '.join(_SCHEMES)}, or * for all")
    return _check(pattern)


_Bounded = StringConstraints(min_length=1, max_length=1024)
Pattern = Annotated[str, _Bounded, AfterValidator(_check)]
"""A pattern for names or images."""
UriPattern = Annotated[str, _Bounded, AfterValidator(_check_uri)]
"""A pattern for URIs. A scheme is a must: without one it would match nothing, and nobody would notice."""
