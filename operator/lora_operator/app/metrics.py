"""The operator's own metrics for Prometheus. No label names a job: their number has no bound."""

from collections.abc import Callable
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from lora_operator.reconcile.keys import Key
from lora_operator.reconcile.queue import Outcome

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counts passes and watches the queue."""

    def __init__(self) -> None:
        """Make the metrics in a registry of their own."""
        self._registry = CollectorRegistry()
        self._passes = Counter(
            "loraop_reconcile_total", "Reconcile passes.", ["kind", "result"], registry=self._registry
        )
        self._seconds = Histogram(
            "loraop_reconcile_duration_seconds",
            "Duration of a reconcile pass.",
            ["kind"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._depth = Gauge("loraop_workqueue_depth", "Objects that wait for a worker.", registry=self._registry)
        self._age = Gauge(
            "loraop_workqueue_oldest_seconds", "Age of the oldest waiting or active object.", registry=self._registry
        )
        build = Gauge("loraop_build_info", "Version of the operator.", ["version"], registry=self._registry)
        build.labels(version=version("lora-operator")).set(1)

    def observe(self, key: Key, outcome: Outcome) -> None:
        """Count a finished pass."""
        self._passes.labels(kind=key.kind.value, result="error" if outcome.error else "success").inc()
        self._seconds.labels(kind=key.kind.value).observe(outcome.seconds)

    def watch_queue(self, depth: Callable[[], float], age: Callable[[], float]) -> None:
        """Read the state of the queue whenever the metrics are asked for."""
        self._depth.set_function(depth)
        self._age.set_function(age)

    def serve(self, port: int, address: str) -> None:
        """Serve /metrics from a thread of its own, so that a busy event loop can be seen from outside."""
        start_http_server(port, addr=address, registry=self._registry)
