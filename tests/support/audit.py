"""What the operator asked of an API server, as the server itself has noted it down."""

import json
from pathlib import Path
from typing import Any, Final

POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


def writes_of(log: Path, user: str, namespace: str) -> list[str]:
    """Return the writes of a user in a namespace, each as verb, resource and name, in their order."""
    found: list[str] = []
    for line in log.read_text().splitlines():
        entry = _parsed(line)
        about = entry.get("objectRef") or {}
        if entry.get("verb") in _WRITES and about.get("namespace") == namespace and _user(entry) == user:
            parts = (about.get("resource"), about.get("subresource"), about.get("name"))
            found.append(f"{entry['verb']} {'/'.join(each for each in parts if each)}")
    return found


def _parsed(line: str) -> dict[str, Any]:
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:  # the last line may be half written
        return {}
    return entry


def _user(entry: dict[str, Any]) -> str:
    return str((entry.get("user") or {}).get("username"))
