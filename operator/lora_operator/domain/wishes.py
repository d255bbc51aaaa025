"""Whether the user asks for something else than the run is: another run, or other pods for the same one.

A digest of the spec alone cannot tell: another release of the operator may know more fields, and the same object would
seem to ask for something else. So what has changed is what has another digest *and* another generation, and an upgrade
starts nothing anew.
"""

from lora_api.conditions import is_true
from lora_api.reasons import ConditionType
from lora_operator.domain.observed import ObservedJob
from lora_operator.domain.status import Draft, is_finished


def wants_new_run(job: ObservedJob) -> bool:
    """Return whether the spec asks for another result than the current run's, or the user for the same once more."""
    status = job.status
    if job.spec is None or status.run is None:
        return False
    if job.restart != (status.restart or ""):
        return True
    return job.generation != _known(status.spec_generation, job) and status.spec_digest != job.spec.result_digest()


def is_corrected(job: ObservedJob) -> bool:
    """Return whether the fields that pods are made of have changed since the pods of the run were made."""
    status = job.status
    if job.spec is None or status.run is None or job.generation == _known(status.attempt_generation, job):
        return False
    return status.attempt_digest != job.spec.attempt_digest()


def _known(generation: int | None, job: ObservedJob) -> int | None:
    """Return the generation that a digest is of. A status of an earlier release does not say."""
    return job.status.observed_generation if generation is None else generation


def is_settled(job: ObservedJob) -> bool:
    """Return whether the run has ended and the spec asks for nothing else: no other run, and no further attempt."""
    if not is_finished(job.status) or wants_new_run(job):
        return False
    return is_true(job.status.conditions, ConditionType.SUCCEEDED) or not is_corrected(job)


def remember(draft: Draft, job: ObservedJob) -> Draft:
    """Return the draft that knows of which generation its digests are, and has them in the words of this release."""
    spec = job.spec
    if spec is None or draft.status.run is None:
        return draft
    if wants_new_run(job):
        draft = draft.update(spec_generation=_known(job.status.spec_generation, job))
    else:
        draft = draft.update(spec_digest=spec.result_digest(), spec_generation=job.generation)
    if is_corrected(job):
        return draft.update(attempt_generation=_known(job.status.attempt_generation, job))
    return draft.tried_with(spec.attempt_digest())
