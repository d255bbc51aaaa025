"""Ordered checks of what a user asks for. The first violation wins, and its text is the text of the condition.

Pure functions `ObservedJob, Settings -> Stall | None`. What the CRD already refuses is not repeated here.
"""

from collections.abc import Callable

from lora_api.reasons import Reason
from lora_operator.domain.errors import Stall
from lora_operator.domain.observed import ObservedJob
from lora_operator.domain.policy import violation
from lora_operator.domain.settings import Settings
from lora_operator.domain.wishes import is_settled


def first_violation(job: ObservedJob, settings: Settings) -> Stall | None:
    """Return the first reason why the spec cannot be followed, or None."""
    return next((stall for check in _CHECKS if (stall := check(job, settings)) is not None), None)


def _spec_parses(job: ObservedJob, _settings: Settings) -> Stall | None:
    if job.spec is not None:
        return None
    return Stall(Reason.INVALID_SPEC, job.spec_error, "correct the fields that the message names")


def _policy_allows(job: ObservedJob, settings: Settings) -> Stall | None:
    """Return the first breach of the administrator's policy by a job that is to make anything."""
    return None if is_settled(job) else violation(settings.policy, job, trainer_image=settings.trainer_image)


_CHECKS: tuple[Callable[[ObservedJob, Settings], Stall | None], ...] = (
    _spec_parses,  # nothing can be said of a spec that does not parse
    _policy_allows,  # a pod that runs already is left alone, and nothing new is made
)
