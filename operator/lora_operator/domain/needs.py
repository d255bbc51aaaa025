"""Which children a decision about a job depends on, so that nothing else is read. Pure, as the decision itself."""

from dataclasses import dataclass

from lora_api.conditions import is_true
from lora_api.reasons import ConditionType
from lora_operator.domain.observed import ObservedJob
from lora_operator.domain.status import is_finished
from lora_operator.domain.wishes import is_settled, wants_new_run


@dataclass(frozen=True, slots=True)
class Needs:
    """What to read of a job."""

    preflight: bool = False
    train: bool = False
    service: bool = False
    adapter: bool = False
    cleanup: bool = False


def needs_of(job: ObservedJob) -> Needs:
    """Return what to read. What a job has never had is not looked for: creating it finds out."""
    status = job.status
    if job.deleting:
        return _all(job, cleanup=True) if job.guarded else Needs()
    if status.run is None:
        return Needs()
    if is_finished(status):
        wanted = _all(job) if _makes_way(job) else Needs()
        succeeded = is_true(status.conditions, ConditionType.SUCCEEDED)
        return Needs(wanted.preflight, wanted.train, wanted.service, adapter=succeeded)
    passed = is_true(status.conditions, ConditionType.PREFLIGHT_PASSED)
    return Needs(preflight=not passed or wants_new_run(job), train=passed or wants_new_run(job), service=_meets(job))


def first_needs(job: ObservedJob) -> Needs:
    """Return what to read of a job whose first objects were made just now, though its status does not say so yet."""
    checked_first = job.spec is None or job.spec.preflight.enabled
    return Needs(preflight=checked_first, train=not checked_first, service=_meets(job))


def everything(_job: ObservedJob) -> Needs:
    """Return all that there may be, for a pass that found more than it had looked for."""
    return Needs(preflight=True, train=True, service=True, adapter=True, cleanup=True)


def _all(job: ObservedJob, *, cleanup: bool = False) -> Needs:
    return Needs(preflight=True, train=True, service=_meets(job), adapter=cleanup, cleanup=cleanup)


def _makes_way(job: ObservedJob) -> bool:
    """Return whether the children of a finished run may have to go: for another run, another try, or for good."""
    return job.spec is not None and (not is_settled(job) or job.spec.ttl_seconds_after_finished is not None)


def _meets(job: ObservedJob) -> bool:
    return job.spec is None or job.spec.resources.nodes > 1
