"""Reads what trainer and cluster said, into text that may be shown. What a container wrote is never shown unread.

A user's image may write anything into its termination message: only the trainer's own JSON is believed. A registry or a
webhook may put keys into an address: they are taken out.
"""

import re

from lora_api.exit_codes import ExitCode
from lora_api.messages import TerminationMessage
from lora_operator.domain.numbers import load_finite
from lora_operator.domain.observed import ContainerEnd, WorkView

_USER_IN_URL = re.compile(r"(?<=://)[^/@\s\"']+@")
_LIMIT = 1500
"""Characters of a cluster's words in a status; an admission webhook may answer with a whole report."""
_QUERY_OF_URL = re.compile(r"(https?://[^\s\"'?]+)\?[^\s\"']+")


def read_message(end: ContainerEnd | None) -> TerminationMessage | None:
    """Return the trainer's last words; None when there are none, or when they are not the trainer's."""
    if end is None or not end.message:
        return None
    try:
        return TerminationMessage.model_validate(load_finite(end.message))
    except ValueError:
        return None


def last_words(work: WorkView) -> TerminationMessage | None:
    """Return the message of the newest pod of a Job that left one with exit code 0."""
    done = [pod.end for pod in work.pods if pod.end is not None and pod.end.exit_code == ExitCode.DONE]
    return read_message(done[-1]) if done else None


def published_by(work: WorkView) -> TerminationMessage | None:
    """Return the last words of a pod that published an adapter which did not pass its gate; None if none did."""
    pod = work.newest
    gated = pod is not None and pod.end is not None and pod.end.exit_code == ExitCode.GATE_NOT_PASSED
    return read_message(pod.end) if pod and gated else None


def shown(text: str) -> str:
    """Return the words of a cluster as a status may show them: bounded, without keys in addresses, no full stop."""
    plain = _QUERY_OF_URL.sub(r"\1?…", _USER_IN_URL.sub("…@", text)).strip().rstrip(".")
    return plain if len(plain) <= _LIMIT else plain[: _LIMIT - 1] + "…"
