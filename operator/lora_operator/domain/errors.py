"""The ways in which a job cannot go on.

`Stall` is a value: the user must act, and nothing is retried until something changes. `RefusedError` is what the
API server answers when it does not take an object of ours. Everything else is an ordinary exception: retried with
backoff.
"""

from dataclasses import dataclass

from lora_api.lorajob_status import Failure
from lora_api.reasons import Reason


@dataclass(frozen=True, slots=True)
class Stall:
    """Why the user must act, and what would help."""

    reason: Reason
    message: str
    hint: str = ""

    def as_failure(self) -> Failure:
        """Return it as `status.failure` shows it."""
        return Failure(reason=self.reason, message=self.message, hint=self.hint)


class RefusedError(Exception):
    """The API server refused to create or change an object: invalid, forbidden, or over a quota."""

    def __init__(self, *, status: int, subject: str, message: str) -> None:
        """Keep the HTTP status, what was refused (`Job name`), and the server's words."""
        super().__init__(f"{subject} was refused ({status}): {message}")
        self.status = status
        self.subject = subject
        self.message = message
