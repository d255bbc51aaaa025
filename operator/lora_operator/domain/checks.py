"""Ordered checks of what a user asks for. The first violation wins, and its text is the text of the condition.

Pure functions `ObservedJob -> Stall | None`. What the CRD already refuses is not repeated here.
"""

from collections.abc import Callable

from lora_api.reasons import Reason
from lora_api.support import unsupported_fields
from lora_operator.domain.errors import Stall
from lora_operator.domain.observed import ObservedJob


def first_violation(job: ObservedJob) -> Stall | None:
    """Return the first reason why the spec cannot be followed, or None."""
    return next((stall for check in _CHECKS if (stall := check(job)) is not None), None)


def _spec_parses(job: ObservedJob) -> Stall | None:
    if job.spec is not None:
        return None
    return Stall(Reason.INVALID_SPEC, job.spec_error, "correct the fields that the message names")


def _spec_is_supported(job: ObservedJob) -> Stall | None:
    found = unsupported_fields(job.spec) if job.spec else []
    if not found:
        return None
    message = "; ".join(f"{each.field}: {each.value} is not supported yet" for each in found)
    hint = "; ".join(f"{each.field}: {each.fix}" for each in found)
    return Stall(Reason.NOT_SUPPORTED, message, hint)


def _spec_is_that_of_the_run(job: ObservedJob) -> Stall | None:
    accepted = job.status.spec_digest
    if accepted is None or job.spec is None or job.spec.result_digest() == accepted:
        return None
    message = (
        f"The spec asks for another adapter than run {job.run}, which goes on with the spec that it started with. "
        "This release does not start a new run for a changed spec"
    )
    return Stall(Reason.SPEC_CHANGED, message, "restore the spec, or delete the LoRAJob and apply it again")


_CHECKS: tuple[Callable[[ObservedJob], Stall | None], ...] = (
    _spec_parses,  # nothing can be said of a spec that does not parse
    _spec_is_supported,  # a field without its behaviour is refused, never ignored
    _spec_is_that_of_the_run,  # the run is what it was when it started
)
