"""The witness of all passes: gives what it hears to logs, metrics and traces."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from lora_api.lorajob_status import Phase
from lora_operator.app.logs import pass_context, set_generation
from lora_operator.app.metrics import Metrics
from lora_operator.app.tracing import Tracing
from lora_operator.domain.adapter_plan import AdapterPlan
from lora_operator.domain.measures import Measure
from lora_operator.reconcile.keys import Key
from lora_operator.reconcile.witness import Witness


class Telemetry(Witness):
    """Tells the three of them."""

    def __init__(self, metrics: Metrics, tracing: Tracing) -> None:
        """Keep whom to tell."""
        self._metrics = metrics
        self._tracing = tracing

    @contextmanager
    def started(self, key: Key) -> Iterator[None]:
        """Put key and generation on each line of the pass, and its time into a span."""
        attributes = {"kind": key.kind.value, "namespace": key.namespace, "name": key.name}
        with pass_context(key), self._tracing.span("reconcile", **attributes):
            yield

    def part(self, name: str) -> AbstractContextManager[None]:
        """Put the time of a part of the pass into a span."""
        return self._tracing.span(name)

    def read(self, generation: int) -> None:
        """Tell logs and traces the generation."""
        set_generation(generation)
        self._tracing.mark(generation=generation)

    def refused(self, key: Key) -> None:
        """Count the pass as refused."""
        self._metrics.refused(key)

    def finished(self, key: Key, phase: Phase | None, measures: Sequence[Measure]) -> None:
        """Record phase and measures."""
        self._metrics.saw(key, phase)
        self._metrics.record(measures)

    def delivered(self, key: Key, plan: AdapterPlan | None) -> None:
        """Record where the pods of a LoRAAdapter stand."""
        self._metrics.delivered(key, plan)

    def requested(self, verb: str, resource: str, status: int, seconds: float) -> None:
        """Count and trace a request to the API server."""
        self._metrics.requested(verb, resource, status, seconds)
        self._tracing.request(verb, resource, status, seconds)
