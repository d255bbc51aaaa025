"""Counts the attempts of a run: failures, which were its own fault, and disruptions, which were not.

A pod that the cluster takes away may be gone before anybody looks, and a training Job that is made anew counts from
zero. So an attempt is counted when its pod is first seen, and an attempt that ended without being a failure was a
disruption. Nothing here decides what follows from the numbers.
"""

from collections import Counter

from lora_api.lorajob_status import Attempts
from lora_operator.domain.failures import is_disruption
from lora_operator.domain.observed import Ownership, PodView, WorkView


def count_attempts(before: Attempts, work: WorkView) -> Attempts:
    """Return the attempts after a look at the training Job. Neither number ever falls."""
    base = before if before.job == work.child.uid else _next_job(before, work)
    leaders = [pod for pod in work.pods if pod.index == 0]
    unseen = [pod for pod in leaders if _mark(pod) > (base.newest or "")]
    pods = base.pods + len(unseen)
    failures = max(work.failures, _seen_failures(work))
    neither = _alive(work.newest) + (work.complete or any(pod.phase == "Succeeded" for pod in leaders))
    disruptions = 0 if _we_end_it(work) else max(0, pods - failures - neither)
    return base.model_copy(
        update={
            "pods": pods,
            "newest": max((_mark(pod) for pod in unseen), default=base.newest),
            "failures": max(base.failures, base.earlier_failures + failures),
            "disruptions": max(base.disruptions, base.earlier_disruptions + disruptions),
        }
    )


def was_heard(pod: PodView, before: Attempts, work: WorkView) -> bool:
    """Return whether what an attempt said when it ended was heard before this look at the training Job.

    Another pod is made only when the one before has ended. So the first look at a newer one has heard the older one.
    """
    return before.job == work.child.uid and _mark(pod) < (before.newest or "")


def _next_job(before: Attempts, work: WorkView) -> Attempts:
    """Return the counts at the start of another training Job: what the last one left behind stays."""
    return Attempts(
        failures=before.failures,
        disruptions=before.disruptions,
        job=work.child.uid,
        earlier_failures=before.failures,
        earlier_disruptions=before.disruptions,
    )


def _mark(pod: PodView) -> str:
    return f"{pod.created} {pod.uid}"


def _alive(newest: PodView | None) -> bool:
    """Return whether the newest attempt has not ended. A pod that is not there any more has.

    The phase decides, and not the container: between the two it is not said yet whether the pod was disrupted.
    """
    return newest is not None and newest.phase not in ("Failed", "Succeeded")


def _we_end_it(work: WorkView) -> bool:
    """Return whether the pods vanish because their Job ends, which nobody disrupted."""
    return work.failed or work.child.ownership is not Ownership.OURS


def _seen_failures(work: WorkView) -> int:
    """Return the failures that can be seen, not all of which the Job counts: one an attempt, whoever of it failed."""
    return max(Counter(pod.index for pod in work.pods if _is_failure(pod)).values(), default=0)


def _is_failure(pod: PodView) -> bool:
    return pod.phase == "Failed" and not is_disruption(pod)
