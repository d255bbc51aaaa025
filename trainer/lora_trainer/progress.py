"""How far the run is, for whoever asks by HTTP: `GET /progress` as JSON, `GET /metrics` for Prometheus.

The server runs in daemon threads and only reads; the training thread only writes. It must never slow the training
down or keep the process alive.
"""

import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lora_api.messages import Activity, Progress
from lora_api.names import METRICS_PATH, PROGRESS_PATH, PROGRESS_PORT

_GAUGES = {
    "lora_trainer_step": ("step", "Finished optimizer steps."),
    "lora_trainer_total_steps": ("total_steps", "Optimizer steps of the whole run."),
    "lora_trainer_loss": ("loss", "Training loss of the last step, mean over supervised tokens."),
    "lora_trainer_eval_loss": ("eval_loss", "Last evaluation loss, mean over supervised tokens."),
    "lora_trainer_tokens_per_second": ("tokens_per_second", "Tokens trained on per second, without padding."),
}


class ProgressState:
    """The newest `Progress`, safe to read from any thread because it is replaced whole."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress = Progress()
        self._beat_time = time.monotonic()

    @property
    def current(self) -> Progress:
        """The newest progress."""
        return self._progress

    @property
    def silent_seconds(self) -> float:
        """Time since the last sign of life."""
        return time.monotonic() - self._beat_time

    def beat(self) -> None:
        """Give a sign of life."""
        self._beat_time = time.monotonic()

    def update(self, **changes: Any) -> None:
        """Change some fields of `Progress`, which is a sign of life too."""
        self.beat()
        with self._lock:
            self._progress = self._progress.model_copy(update=changes)

    def enter(self, activity: Activity) -> None:
        """Say what the pod does now."""
        self.update(activity=activity)

    def step(self, step: int, total: int, seconds_per_step: float | None) -> None:
        """Record a finished step, with the percentage and the expected end that follow from it."""
        remaining = None if seconds_per_step is None else timedelta(seconds=seconds_per_step * (total - step))
        eta = None if remaining is None else (datetime.now(UTC) + remaining).replace(microsecond=0)
        self.update(step=step, total_steps=total, percent=round(100 * step / max(total, 1), 1), eta_time=eta)


def serve_progress(state: ProgressState, port: int = PROGRESS_PORT) -> ThreadingHTTPServer:
    """Serve the state on all interfaces, on any free port if `port` is taken, as it may be on a laptop."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == PROGRESS_PATH:
                self._answer(200, "application/json", state.current.model_dump_json(by_alias=True, exclude_none=True))
            elif self.path == METRICS_PATH:
                self._answer(200, "text/plain; version=0.0.4", prometheus_text(state.current))
            else:
                self._answer(404, "text/plain", "not found\n")

        def _answer(self, status: int, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing: a poll every few seconds is no news."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Say nothing: a client that hangs up is no news either."""

    try:
        server = Server(("0.0.0.0", port), Handler)  # noqa: S104 - the operator polls by pod IP
    except OSError:
        server = Server(("0.0.0.0", 0), Handler)  # noqa: S104
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="progress", daemon=True).start()
    return server


def prometheus_text(progress: Progress) -> str:
    """Return the gauges in Prometheus' text format; a value that is not known yet is left out."""
    lines = []
    for name, (attribute, words) in _GAUGES.items():
        value = getattr(progress, attribute)
        if value is not None:
            lines += [f"# HELP {name} {words}", f"# TYPE {name} gauge", f"{name} {value}"]
    return "\n".join(lines) + "\n"
