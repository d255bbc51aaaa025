"""Waiting in tests: for a condition, with a deadline, never for a time."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

INTERVAL_SECONDS = 0.25


def until(
    probe: Callable[[], T | None], what: str, seconds: float = 60, state: Callable[[], object] | None = None
) -> T:
    """Return the first true value of the probe; fail with `what`, and the state if asked, after the deadline."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (value := probe()):
        if time.monotonic() > deadline:
            seen = f"; last seen: {state()}" if state else ""
            raise AssertionError(f"after {seconds:.0f} s still not: {what}{seen}")
        pause.wait(INTERVAL_SECONDS)
    return value
