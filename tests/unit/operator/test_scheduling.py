"""Why no node takes a pod, in words that name what is short, on how many nodes, and the field that asks for it.

The messages with one node were copied from a cluster of version 1.36; the others are put together as its source does.
"""

import pytest

from lora_operator.domain.scheduling import explain_unschedulable, unschedulable_failure
from support.failures import assert_words, spec
from support.world import pod

HELPLESS = "preemption: 0/{n} nodes are available: {n} Preemption is not helpful for scheduling."
NEW = "no new claims to deallocate, " + HELPLESS
UNSCHEDULABLE = {
    "GPUs": (
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. " + NEW.format(n=1),
        "nvidia.com/gpu is short on 1 of 1 node",
        ["spec.resources.gpus (now 1)", "spec.resources.gpuResourceName"],
    ),
    "GPUs and a taint": (
        "0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint {gpu: true}. "
        + HELPLESS.format(n=3),
        "nvidia.com/gpu is short on 1 of 3 nodes, the taint gpu=true is not tolerated on 2 of 3 nodes",
        ["spec.resources.gpus", "add a toleration of gpu=true to spec.scheduling.tolerations"],
    ),
    "CPU and memory": (
        "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. " + NEW.format(n=1),
        "cpu is short on 1 of 1 node, memory is short on 1 of 1 node",
        ["spec.resources.cpu", "spec.resources.memory"],
    ),
    "a taint without its name": (
        "0/4 nodes are available: 4 node(s) had untolerated taint(s). " + HELPLESS.format(n=4),
        "a taint is not tolerated on 4 of 4 nodes",
        ["spec.scheduling.tolerations", "kubectl describe nodes"],
    ),
    "a node that is not ready": (
        "0/2 nodes are available: 2 node(s) had untolerated taint {node.kubernetes.io/not-ready: }. "
        + HELPLESS.format(n=2),
        "the node is not-ready on 2 of 2 nodes",
        ["repaired"],
    ),
    "a cordoned node": (
        "0/12 nodes are available: 12 node(s) were unschedulable. " + HELPLESS.format(n=12),
        "the node is cordoned on 12 of 12 nodes",
        ["kubectl uncordon"],
    ),
    "a node selector": (
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. " + NEW.format(n=1),
        "the node selector (pool=gpu) or affinity does not match on 1 of 1 node",
        ["spec.scheduling.nodeSelector", "label a node"],
    ),
    "a full node": (
        "0/1 nodes are available: 1 Too many pods. " + HELPLESS.format(n=1),
        "there are too many pods on 1 of 1 node",
        ["add a node"],
    ),
    "a claim without a volume": (
        "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found",
        "no node fits: a PersistentVolumeClaim of the job has no volume",
        ["kubectl describe pvc"],
    ),
    "a volume elsewhere": (
        "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity. " + HELPLESS.format(n=2),
        "other nodes only on 2 of 2 nodes",
        ["another zone"],
    ),
    "a host port": (
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. "
        + HELPLESS.format(n=1),
        "a port of the node is taken on 1 of 1 node",
        ["asks for no host port", "admission webhook"],
    ),
    "something new": (
        "0/1 nodes are available: 1 node(s) had bad karma. " + HELPLESS.format(n=1),
        "had bad karma on 1 of 1 node",
        ["spec.scheduling"],
    ),
    "no node at all": ("no nodes available to schedule pods", "no nodes available", ["add a node"]),
}


@pytest.mark.parametrize(("message", "text", "hint"), UNSCHEDULABLE.values(), ids=UNSCHEDULABLE)
def test_no_node_fits(message: str, text: str, hint: list[str]) -> None:
    failure = unschedulable_failure(
        pod(node="", unschedulable=message), spec(scheduling={"nodeSelector": {"pool": "gpu"}})
    )
    assert (failure.reason, failure.exit_code) == ("Unschedulable", None)
    assert failure.message.startswith("Pod pod-1 waits: no node fits: ")
    assert "reemption" not in failure.message, "only the user's side of it"
    assert_words(failure, [text], [*hint, "as soon as a node fits"])


def test_without_a_valid_spec_a_message_of_the_scheduler_is_explained_all_the_same() -> None:
    for message, *_ in UNSCHEDULABLE.values():
        assert all(explain_unschedulable(message, None))
