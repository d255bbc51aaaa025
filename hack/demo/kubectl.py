"""kubectl, as a user would type it: the demo and the end-to-end tests go the way of the README."""

import json
import subprocess
from typing import Any


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """Run kubectl and return what it prints; raise RuntimeError with its own words when it fails."""
    result = run(*arguments, stdin=stdin)
    if result.returncode:
        raise RuntimeError(f"kubectl {' '.join(arguments)}: {result.stderr.strip()}")
    return result.stdout


def run(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl and return its exit code and output."""
    return subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False)


def get(namespace: str, kind: str, name: str) -> dict[str, Any] | None:
    """Return an object, or None when it is not there."""
    text = kubectl("-n", namespace, "get", kind, name, "--ignore-not-found", "-o", "json")
    return json.loads(text) if text.strip() else None


def items(namespace: str, kind: str, selector: str = "") -> list[dict[str, Any]]:
    """Return the objects of a kind in a namespace."""
    found: list[dict[str, Any]] = json.loads(kubectl("-n", namespace, "get", kind, "-l", selector, "-o", "json"))[
        "items"
    ]
    return found


def apply(namespace: str, *objects: dict[str, Any]) -> None:
    """Apply objects."""
    kubectl("-n", namespace, "apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, objects)))


def condition(item: dict[str, Any] | None, condition_type: str) -> dict[str, Any]:
    """Return the condition of a type, or an empty one."""
    conditions = ((item or {}).get("status") or {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == condition_type), {})
