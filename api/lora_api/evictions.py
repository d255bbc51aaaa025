"""What the kubelet's words on an evicted pod mean: it took more disk than it may, or its node had none left.

The first ends the same way wherever the pod runs, so it is the job's fault; the second is not. Kubernetes has no field
for the difference, and no DisruptionTarget on a pod of the first kind.
"""

import re

_EMPTY_DIR = re.compile(r'EmptyDir volume "(?P<name>[^"]+)" exceeds')
_STORAGE = re.compile(
    r"ephemeral local storage usage exceeds the total limit|exceeded its local ephemeral storage limit"
)


def full_volume(message: str) -> str | None:
    """Return the name of the emptyDir volume that had become larger than its limit; None if none had."""
    found = _EMPTY_DIR.search(message)
    return found["name"] if found else None


def exceeds_storage_limit(message: str) -> bool:
    """Return whether a container, or all of the pod, had more on its disk than its limit for ephemeral-storage."""
    return _STORAGE.search(message) is not None


def outgrew_its_disk(message: str) -> bool:
    """Return whether the pod was evicted for a limit of its own, and not for a shortage of the node."""
    return full_volume(message) is not None or exceeds_storage_limit(message)
