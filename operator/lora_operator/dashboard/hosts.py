"""Which host names a browser may know the page by. Pure.

The page has no password of its own, so a foreign site must not be able to read it through the browser of somebody who
can reach it. Such a site can let a name of its own point to our address (DNS rebinding), but it cannot take a name
that only the cluster has.
"""

import ipaddress
from collections.abc import Collection

_CLUSTER_ENDINGS = (".svc", ".cluster.local")


def is_allowed(host: str, named: Collection[str]) -> bool:
    """Return whether a Host header may be answered: an address, a name of the cluster, or one that was named."""
    name = _without_port(host).lower()
    if not name:
        return False
    return name in named or "." not in name.rstrip(".") or name.endswith(_CLUSTER_ENDINGS) or _is_address(name)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
