"""What the operator may do in a cluster: the one table from which its Roles are made.

No wildcard, no Secrets, no exec: credentials go from the kubelet to the pod and are never seen here. The integration
tests run the operator with exactly these rights.
"""

from typing import Any, Final

from lora_api.names import GROUP

RULES: Final[list[dict[str, Any]]] = [
    # Patch: the finalizer of a job with deletionPolicy Delete, and nothing else of the object.
    {"apiGroups": [GROUP], "resources": ["lorajobs"], "verbs": ["get", "list", "watch", "patch"]},
    {"apiGroups": [GROUP], "resources": ["lorajobs/status", "loraadapters/status"], "verbs": ["patch"]},
    # Lets children block the deletion of their job where the cluster enforces owner references.
    {"apiGroups": [GROUP], "resources": ["lorajobs/finalizers"], "verbs": ["update"]},
    # A server-side apply is a patch, and also a create when the object is not there yet.
    {
        "apiGroups": [GROUP],
        "resources": ["loraadapters"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "create", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
    # What an inference pod is to serve, as an annotation: nothing of a pod's spec can be changed this way.
    {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]},
    # List and watch: why a Job could not make its pod is said only in events.
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list", "watch", "create"]},
    # Why a job is queued; a cluster without Kueue answers that there is no such thing.
    {"apiGroups": ["kueue.x-k8s.io"], "resources": ["workloads"], "verbs": ["list"]},
]
"""Rules for every namespace that is served. With `--progress=proxy`, outside a cluster, `get` on `pods/proxy` is
added."""

LEASE_NAME: Final = "lora-operator"
"""The one Lease that the operator may touch."""

OWN_NAMESPACE_RULES: Final[list[dict[str, Any]]] = [
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": [LEASE_NAME],
        "verbs": ["get", "update"],
    },
    # No name: what does not exist yet has none that could be checked.
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
]
"""Rules for the operator's own namespace only: the Lease by which one replica leads."""

WEBHOOK_NAME: Final = "lora-operator"
"""The one MutatingWebhookConfiguration that the operator may touch."""

WEBHOOK_RULES: Final[list[dict[str, Any]]] = [
    {
        "apiGroups": ["admissionregistration.k8s.io"],
        "resources": ["mutatingwebhookconfigurations"],
        "resourceNames": [WEBHOOK_NAME],
        "verbs": ["get", "patch"],
    },
]
"""Rules for the whole cluster, since such an object has no namespace: each replica adds its authority to the entry."""
