"""What a trainer does at the moment, as it says itself by `GET /progress`."""

import http.client
import threading
import time

from lora_api.messages import Activity, Progress
from lora_api.names import PROGRESS_PATH

_INTERVAL_SECONDS = 0.01


class Watch:
    """Asks again and again, in a thread of its own, so that a kill does not wait for an answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.progress = Progress()
        """The newest answer."""
        self.publishing_time: float | None = None
        """When it was first seen publishing, by the monotonic clock."""

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def publishes(self) -> bool:
        """Whether it was seen publishing."""
        return self.publishing_time is not None

    def _ask(self) -> None:
        while not self._stopped.wait(_INTERVAL_SECONDS):
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
            try:
                connection.request("GET", PROGRESS_PATH)
                self._see(Progress.model_validate_json(connection.getresponse().read()))
            except (OSError, http.client.HTTPException, ValueError):  # not yet, or no longer
                continue
            finally:
                connection.close()

    def _see(self, progress: Progress) -> None:
        self.progress = progress
        if progress.activity is Activity.PUBLISHING and self.publishing_time is None:
            self.publishing_time = time.monotonic()
