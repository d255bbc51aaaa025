"""Waiting in tests: for something to be seen, with a deadline, never for a time."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

INTERVAL_SECONDS = 0.1


def wait_for(
    what: str,
    look: Callable[[], T | None],
    *,
    seconds: float = 30.0,
    state: Callable[[], object] | None = None,
) -> T:
    """Return what `look` finds, as soon as it finds something; fail with `what`, and the state, after the deadline."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (found := look()):
        if time.monotonic() > deadline:
            seen = f"; last seen: {state()}" if state else ""
            raise AssertionError(f"not within {seconds:.0f} s: {what}{seen}")
        pause.wait(INTERVAL_SECONDS)
    return found
