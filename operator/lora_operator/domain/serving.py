"""What a new pod is told at its admission: the versions that are served elsewhere already. Pure.

A version whose rollout is under way comes later, when it is the pod's turn.
"""

from collections.abc import Collection, Iterable

from lora_api.delivery import Desired
from lora_operator.domain.adapter_versions import entry_of, served_version
from lora_operator.domain.observed import ObservedAdapter


def stable_entries(adapters: Iterable[ObservedAdapter], names: Collection[str]) -> Desired:
    """Return what a pod that asks for these names is to serve from its start."""
    entries = [
        entry_of(each.name, each.spec, version)
        for each in adapters
        if each.name in names and each.spec and each.deleting_since is None and (version := served_version(each.status))
    ]
    return Desired(adapters=sorted(entries, key=lambda each: each.name))
