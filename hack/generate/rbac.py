"""What the operator may do in a cluster: one table, from which every Role is made.

No wildcard, no Secrets, no pods/exec. A test holds the shipped manifests to this table.
"""

from typing import Any, NamedTuple

GROUP = "lora-operator.io"


class Right(NamedTuple):
    """Verbs on one resource, and what they are for."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    purpose: str


OPERATOR_RIGHTS = (
    Right(GROUP, "lorajobs", ("get", "list", "watch"), "the jobs to reconcile; spec is never written"),
    Right(GROUP, "lorajobs/status", ("patch",), "server-side apply of the status"),
    Right(GROUP, "loraadapters", ("get", "list", "watch", "create", "patch"), "the adapter of a job that succeeded"),
    Right(GROUP, "loraadapters/status", ("patch",), "server-side apply of the status"),
    Right("batch", "jobs", ("get", "list", "watch", "create", "patch"), "preflight and training"),
    Right("", "configmaps", ("get", "create", "patch"), "the job file of a run"),
    Right("", "pods", ("get", "list", "watch"), "why a pod does not start, how it ended, where its progress is"),
    Right("", "events", ("list", "create", "patch"), "why a Job makes no pod; events on our own objects"),
)

EDITOR_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
VIEWER_VERBS = ("get", "list", "watch")
RESOURCES = ("lorajobs", "loraadapters")


def policy_rules(rights: tuple[Right, ...] = OPERATOR_RIGHTS) -> list[dict[str, Any]]:
    """Return the rules of a Role or ClusterRole."""
    return [{"apiGroups": [right.group], "resources": [right.resource], "verbs": list(right.verbs)} for right in rights]


def user_rules(verbs: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the rules of the roles that aggregate to the cluster's own edit and view."""
    return [{"apiGroups": [GROUP], "resources": list(RESOURCES), "verbs": list(verbs)}]
