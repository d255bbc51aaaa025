"""What the operator may do in a cluster: the one list from which its ClusterRole is made.

No wildcard, and no Secrets: credentials go from the kubelet to the pod and are never seen here. The integration tests
run the operator with exactly these rights.
"""

from typing import Any, Final

from lora_api.names import GROUP

RULES: Final[list[dict[str, Any]]] = [
    {"apiGroups": [GROUP], "resources": ["lorajobs"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [GROUP], "resources": ["lorajobs/status", "loraadapters/status"], "verbs": ["patch"]},
    # Lets children block the deletion of their job where the cluster enforces owner references.
    {"apiGroups": [GROUP], "resources": ["lorajobs/finalizers"], "verbs": ["update"]},
    # A server-side apply is a patch, and also a create when the object is not there yet.
    {"apiGroups": [GROUP], "resources": ["loraadapters"], "verbs": ["get", "list", "watch", "create", "patch"]},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "watch", "create", "patch"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
    # List: why a Job could not make its pod is said only in events.
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list", "create"]},
]
"""Rules of the ClusterRole. With `--progress=proxy`, outside a cluster, `get` on `pods/proxy` comes to it."""
