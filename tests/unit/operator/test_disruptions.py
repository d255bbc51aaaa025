"""Ends of pods that are nobody's fault: which of them they are, and how they are told.

The words of Kubernetes come from its source, release 1.36; those of a drain from a cluster.
"""

import pytest

from lora_api.exit_codes import PERMANENT
from lora_api.messages import TerminationMessage
from lora_operator.domain.disruptions import describe_disruption, disruption_reason, is_disruption, is_overlooked
from lora_operator.domain.observed import ContainerEnd
from support.world import ended, pod


def said(message: str) -> TerminationMessage:
    return TerminationMessage(reason="Interrupted", message=message)


DISRUPTIONS = {
    "evicted by a drain": (
        {"disruption_reason": "EvictionByEvictionAPI", "disruption_message": "Eviction API: evicting"},
        "Evicted",
        "Pod pod-1 was evicted from node node-1: Eviction API: evicting",
    ),
    "evicted for memory": (
        {
            "disruption_reason": "TerminationByKubelet",
            "disruption_message": "The node was low on resource: memory. ",
            "lost_reason": "Evicted",
            "lost_message": "The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi. ",
        },
        "Evicted",
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi",
    ),
    "pre-empted by the scheduler": (
        {
            "disruption_reason": "PreemptionByScheduler",
            "disruption_message": "default-scheduler: preempting to accommodate a higher priority pod",
        },
        "Preempted",
        "Pod pod-1 made way for a pod of higher priority on node node-1: default-scheduler: preempting",
    ),
    "pre-empted by the kubelet": (
        {
            "disruption_reason": "TerminationByKubelet",
            "disruption_message": "Pod was preempted by Kubelet to accommodate a critical pod.",
        },
        "Preempted",
        "for a pod of higher priority on node node-1: Pod was preempted by Kubelet",
    ),
    "its node is deleted": (
        {"disruption_reason": "DeletionByPodGC", "disruption_message": "PodGC: node no longer exists"},
        "NodeLost",
        "Pod pod-1 was lost with its node node-1: PodGC: node no longer exists",
    ),
    "its node is shut down": (
        {
            "disruption_reason": "TerminationByKubelet",
            "disruption_message": "Pod was terminated in response to imminent node shutdown.",
        },
        "NodeLost",
        "lost with its node node-1: Pod was terminated in response to imminent node shutdown",
    ),
    "its node does not answer": (
        {
            "disruption_reason": "DeletionByTaintManager",
            "disruption_message": "Taint manager: deleting due to NoExecute taint",
        },
        "NodeLost",
        "lost with its node node-1: Taint manager: deleting due to NoExecute taint",
    ),
    "its node is cleared by a taint": (
        {
            "disruption_reason": "DeletionByTaintManager",
            "disruption_message": "Taint manager: deleting due to NoExecute taint",
            "end": ContainerEnd(75, "Error", said("Stopped after step 12").encode().decode()),
        },
        "Evicted",
        "was evicted from node node-1: Taint manager: deleting due to NoExecute taint. Stopped after step 12",
    ),
    "a reason of a later Kubernetes": (
        {"disruption_reason": "DeletionByFate", "disruption_message": ""},
        "Evicted",
        "was evicted from node node-1: DeletionByFate",
    ),
}


@pytest.mark.parametrize(("state", "reason", "text"), DISRUPTIONS.values(), ids=DISRUPTIONS)
def test_a_pod_that_the_cluster_took_away(state: dict[str, object], reason: str, text: str) -> None:
    taken = pod(phase="Failed", disrupted=True, **state)
    assert is_disruption(taken)
    assert disruption_reason(taken) == reason
    assert text in describe_disruption(taken)
    assert "checkpoint" not in describe_disruption(taken), "what follows is not known here"


def test_a_user_interrupt_is_a_disruption_in_the_trainers_words() -> None:
    stopped = ended(75, said("Stopped after step 12, which is saved"))
    assert is_disruption(stopped)
    assert disruption_reason(stopped) == "Interrupted"
    assert describe_disruption(stopped) == (
        "Pod pod-1 was interrupted on node node-1. Stopped after step 12, which is saved"
    )


SCRATCH_FULL = 'Usage of EmptyDir volume "scratch" exceeds the limit "8Mi". '
STORAGE_FULL = "Pod ephemeral local storage usage exceeds the total limit of containers 8Mi. "
NODE_FULL = "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 9Mi. "
EVICTIONS: dict[str, tuple[str, int, bool, bool, bool]] = {
    # The kubelet's words, the exit code, whether Kubernetes calls it a disruption; a disruption? unseen by the Job?
    "its scratch is full, and it is killed": (SCRATCH_FULL, 137, False, False, False),
    "its scratch is full, and it saves in time": (SCRATCH_FULL, 75, False, False, True),
    "its scratch is full, by a kubelet that sets the condition": (SCRATCH_FULL, 137, True, False, True),
    "its storage is full, and it saves in time": (STORAGE_FULL, 75, False, False, True),
    "the node is full, and it saves in time": (NODE_FULL, 75, True, True, False),
    "the node is full, and it is killed": (NODE_FULL, 137, True, True, False),
}


@pytest.mark.parametrize(
    ("message", "code", "condition", "disruption", "overlooked"), EVICTIONS.values(), ids=EVICTIONS
)
def test_an_eviction_is_a_disruption_unless_the_pod_outgrew_a_limit_of_its_own(
    message: str, code: int, condition: bool, disruption: bool, overlooked: bool
) -> None:
    taken = pod(
        phase="Failed",
        lost_reason="Evicted",
        lost_message=message,
        disrupted=condition,
        end=ContainerEnd(code, "Error", said("Stopped after step 12").encode().decode()),
    )
    assert (is_disruption(taken), is_overlooked(taken)) == (disruption, overlooked)


def test_only_the_kubelet_says_why_a_pod_was_evicted() -> None:
    """Whoever deletes a pod leaves no such reason, and what the trainer says is not asked."""
    deleted = pod(phase="Failed", end=ContainerEnd(75, "Error", said(SCRATCH_FULL).encode().decode()))
    assert is_disruption(deleted)
    assert not is_overlooked(deleted)


@pytest.mark.parametrize("code", sorted(PERMANENT))
def test_a_failure_is_no_disruption(code: int) -> None:
    assert not is_disruption(ended(code))
