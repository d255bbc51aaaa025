"""Why an adapter is not served: the one value that checks, drivers and the loop tell each other."""

from dataclasses import dataclass

from lora_api.reasons import Reason


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one adapter."""

    reason: Reason
    message: str
    """One sentence for people: what is wrong, and what to change. Never a key or a row of data."""
    permanent: bool
    """Whether only another desired state can help. Else it is tried again, slower and slower."""
