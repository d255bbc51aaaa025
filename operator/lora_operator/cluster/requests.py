"""Names a request to the API server in the words of Kubernetes, for metrics and traces: verb and resource, no names."""

from urllib.parse import urlsplit

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def describe(method: str, path: str, *, watch: bool = False) -> tuple[str, str]:
    """Return verb and resource, such as `get` and `jobs` or `patch` and `lorajobs/status`.

    The path is that of a namespaced collection, or of one object in it and what lies below.
    """
    parts = urlsplit(path).path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        rest = rest[2:]
    resource = "/".join([*rest[:1], *rest[2:3]]) or "unknown"
    reads = "get" if len(rest) > 1 else "list"
    return "watch" if watch else _VERBS.get(method, reads), resource
