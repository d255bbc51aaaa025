"""What a viewer asks for, and the part of the rows that answers it. Pure.

The page holds one screen of rows, whatever their number: filters and pages are made here and not in the browser.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Row = dict[str, Any]

PAGE_ROWS: Final = 50
_TEXT_LIMIT: Final = 200
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_SEARCHED: Final = ("namespace", "name", "base", "reason", "servedName", "digest")


class QueryError(ValueError):
    """A question that makes no sense; the text names the parameter and what to write."""


@dataclass(frozen=True, slots=True)
class Query:
    """Filters, of which an empty one lets everything pass, and the page, from 1."""

    namespace: str = ""
    phase: str = ""
    text: str = ""
    page: int = 1


def read_query(parameters: Mapping[str, str]) -> Query:
    """Read the parameters of a URL. Raises `QueryError`."""
    namespace, phase, text = (parameters.get(name, "").strip() for name in ("namespace", "phase", "text"))
    if namespace:
        check_name(namespace, "namespace")
    if phase and not re.fullmatch(r"[A-Za-z]{1,40}", phase):
        raise QueryError("phase: write one word, such as Running")
    page = parameters.get("page", "1")
    if not re.fullmatch(r"[1-9][0-9]{0,5}", page):
        raise QueryError("page: write a number from 1")
    return Query(namespace, phase, text[:_TEXT_LIMIT], int(page))


def check_name(name: str, what: str) -> str:
    """Return the name of an object or namespace. Raises `QueryError` for what Kubernetes cannot have."""
    if not _NAME.fullmatch(name):
        raise QueryError(f"{what}: write a name of Kubernetes: small letters, digits, dots and dashes")
    return name


def select(rows: Iterable[Row], query: Query) -> dict[str, Any]:
    """Return the rows of a page, newest first, with the numbers that the filters need.

    `phases` counts what the other filters let pass, so that each shows what choosing it would give. A page beyond the
    last one is the last one.
    """
    everything = list(rows)
    named = [each for each in everything if _fits(each, query)]
    wanted = [each for each in named if not query.phase or each["phase"] == query.phase]
    # Two stable sorts: newest first, and among equals by name.
    wanted.sort(key=lambda each: (each["namespace"], each["name"]))
    wanted.sort(key=lambda each: each.get("created") or "", reverse=True)
    pages = max(1, -(-len(wanted) // PAGE_ROWS))
    page = min(query.page, pages)
    return {
        "rows": wanted[(page - 1) * PAGE_ROWS : page * PAGE_ROWS],
        "total": len(wanted),
        "page": page,
        "pages": pages,
        "phases": dict(sorted(Counter(each["phase"] for each in named).items())),
        "namespaces": sorted({each["namespace"] for each in everything}),
    }


def _fits(row: Row, query: Query) -> bool:
    if query.namespace and row["namespace"] != query.namespace:
        return False
    words = query.text.lower().split()
    searched = " ".join(str(row.get(field) or "") for field in _SEARCHED).lower() if words else ""
    return all(word in searched for word in words)
