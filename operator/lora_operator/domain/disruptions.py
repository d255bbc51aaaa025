"""Tells the ends of pods that are nobody's fault: evicted, pre-empted, lost with their node, or interrupted.

They are counted apart from failures, as the pod failure policy of the Jobs does. A pod that was evicted for a limit of
its own is a failure, whatever its container said: the next one would end the same way. Nothing here promises what
follows.
"""

from lora_api.evictions import outgrew_its_disk
from lora_api.exit_codes import ExitCode
from lora_api.reasons import Reason
from lora_operator.domain.observed import PodView
from lora_operator.domain.words import read_message, shown

EVICTED = "Evicted"
"""The kubelet's word for a pod that it ended as a whole."""
_NODE_SHUTDOWN = "node shutdown"
_CRITICAL_POD = "critical pod"
_TAINT_MANAGERS = frozenset({"DeletionByTaintManager", "DeletionByDeviceTaintManager"})


def is_disruption(pod: PodView) -> bool:
    """Return whether a pod ended through no fault of the job."""
    return _looks_disrupted(pod) and not _outgrew_its_disk(pod)


def is_overlooked(pod: PodView) -> bool:
    """Return whether a pod failed that the Job does not count: its pod failure policy cannot see why it was evicted."""
    return _looks_disrupted(pod) and _outgrew_its_disk(pod)


def _looks_disrupted(pod: PodView) -> bool:
    """Return whether the pod failure policy of the Jobs ignores the end of a pod."""
    return pod.phase == "Failed" and (pod.disrupted or _was_interrupted(pod))


def _outgrew_its_disk(pod: PodView) -> bool:
    return pod.lost_reason == EVICTED and outgrew_its_disk(pod.lost_message)


def _was_interrupted(pod: PodView) -> bool:
    return pod.end is not None and pod.end.exit_code == ExitCode.INTERRUPTED


def disruption_reason(pod: PodView) -> Reason:
    """Return what kind of disruption ended a pod.

    The taint manager says the same of a node that does not answer and of one that is being cleared: the first cannot
    report how the container ended.
    """
    why, message = pod.disruption_reason, pod.disruption_message
    if not pod.disrupted:
        return Reason.INTERRUPTED
    if why == "PreemptionByScheduler" or _CRITICAL_POD in message:
        return Reason.PREEMPTED
    if why == "DeletionByPodGC" or _NODE_SHUTDOWN in message or (why in _TAINT_MANAGERS and pod.end is None):
        return Reason.NODE_LOST
    return Reason.EVICTED


def describe_disruption(pod: PodView) -> str:
    """Return one or two sentences on how a pod was disrupted: Kubernetes' words, then those of the trainer."""
    what, where = _WHAT[disruption_reason(pod)]
    words = read_message(pod.end)
    said = f". {words.message}" if words else ""
    return f"Pod {pod.name} {what}{where.format(pod.node) if pod.node else ''}{_in_kubernetes_words(pod)}{said}"


_WHAT: dict[Reason, tuple[str, str]] = {
    Reason.EVICTED: ("was evicted", " from node {}"),
    Reason.PREEMPTED: ("made way for a pod of higher priority", " on node {}"),
    Reason.NODE_LOST: ("was lost with its node", " {}"),
    Reason.INTERRUPTED: ("was interrupted", " on node {}"),
}


def _in_kubernetes_words(pod: PodView) -> str:
    """Return what Kubernetes says of it: the pod's own message knows more, such as which resource the node lacks."""
    text = pod.lost_message or pod.disruption_message or pod.disruption_reason
    return f": {shown(text)}" if pod.disrupted and text else ""
