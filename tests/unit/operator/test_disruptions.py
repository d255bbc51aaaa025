"""Ends of pods that are nobody's fault: which of them they are, and how they are told.

The words of Kubernetes come from its source, release 1.36; those of a drain from a cluster.
"""

import pytest

from lora_api.exit_codes import PERMANENT
from lora_api.messages import TerminationMessage
from lora_operator.domain.disruptions import describe_disruption, disruption_reason, is_disruption
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


@pytest.mark.parametrize("code", sorted(PERMANENT))
def test_a_failure_is_no_disruption(code: int) -> None:
    assert not is_disruption(ended(code))
