"""How often one request is tried again within a download. What lasts longer is the agent's, which waits longer."""

import time
from collections.abc import Callable
from typing import TypeVar

from lora_agent.transfer.folder import BrokenOffError
from lora_agent.transfer.protocol import fault_error
from lora_api.reasons import Reason

_ATTEMPTS = 3
T = TypeVar("T")


class Tries:
    """Counts failures in a row, and ends them with `SERVICE_UNAVAILABLE`. `sleep` (seconds) is given by tests."""

    def __init__(self, where: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._where, self._sleep = where, sleep
        self._failures = 0

    def progressed(self) -> None:
        """Begin to count anew: something came."""
        self._failures = 0

    def failed(self, error: BrokenOffError) -> None:
        """Wait, so that the caller tries again; raises `FaultError` after the last attempt."""
        self._failures += 1
        if self._failures >= _ATTEMPTS:
            message = f"{self._where}: {error}; it is tried again; check the network from the pod if it stays"
            raise fault_error(Reason.SERVICE_UNAVAILABLE, message) from error
        self._sleep(2.0 ** (self._failures - 1))

    def call(self, ask: Callable[[], T]) -> T:
        """Return the answer of a request."""
        while True:
            try:
                return ask()
            except BrokenOffError as error:
                self.failed(error)
