"""Optional spans for OpenTelemetry: one for each pass, with its parts and its requests to the API server below it.

Only where the package is installed (`pip install lora-operator[tracing]`) and an endpoint is configured. Otherwise
nothing is imported, and a span is an empty context.
"""

import importlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version
from typing import Any

_LOG = logging.getLogger(__name__)
_PATH = "/v1/traces"
"""Where a collector takes traces by OTLP over HTTP, below its endpoint."""
_NOTHING = nullcontext()
_SERVER_ERROR = 500


class Tracing:
    """Makes no spans."""

    def span(self, name: str, /, **attributes: str) -> AbstractContextManager[None]:
        """Return what runs within a span; spans within it are its children."""
        return _NOTHING

    def mark(self, **attributes: str | int) -> None:
        """Add attributes to the span under way."""

    def request(self, verb: str, resource: str, status: int, seconds: float) -> None:
        """Add the span of a request to the API server that has just ended; `status` is 0 when there was no answer."""

    def close(self) -> None:
        """Send what is not sent yet. It blocks, so it belongs into a thread or the end of the process."""


class _Spans(Tracing):
    """Makes spans by a provider of the OpenTelemetry SDK."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self._api = importlib.import_module("opentelemetry.trace")
        self._tracer = provider.get_tracer("lora-operator", version("lora-operator"))

    @contextmanager
    def _within(self, name: str, attributes: dict[str, str]) -> Iterator[None]:
        with self._tracer.start_as_current_span(name, attributes=attributes):
            yield

    def span(self, name: str, /, **attributes: str) -> AbstractContextManager[None]:
        return self._within(name, attributes)

    def mark(self, **attributes: str | int) -> None:
        self._api.get_current_span().set_attributes(attributes)

    def request(self, verb: str, resource: str, status: int, seconds: float) -> None:
        ended = time.time_ns()
        attributes = {"verb": verb, "resource": resource, "http.response.status_code": status}
        span = self._tracer.start_span(
            f"{verb} {resource}",
            kind=self._api.SpanKind.CLIENT,
            attributes=attributes,
            start_time=ended - int(seconds * 1e9),
        )
        if status == 0 or status >= _SERVER_ERROR:
            span.set_status(self._api.StatusCode.ERROR)
        span.end(end_time=ended)

    def close(self) -> None:
        self._provider.shutdown()


def open_tracing(endpoint: str | None, *, processor: Any = None) -> Tracing:
    """Return spans that go to an endpoint, such as http://collector:4318, or none if there is no endpoint.

    The other variables of OpenTelemetry count as well: OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME,
    OTEL_TRACES_SAMPLER. `processor` takes the spans instead of the exporter, where they are to go elsewhere.
    """
    if endpoint is None and processor is None:
        return Tracing()
    try:
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        provider = sdk.TracerProvider(resource=_resource(), shutdown_on_exit=False)
        provider.add_span_processor(processor or _exporter(f"{endpoint}".rstrip("/") + _PATH))
    except ImportError as error:
        _LOG.warning("No traces: %s is not installed; install lora-operator[tracing]", error.name)
        return Tracing()
    return _Spans(provider)


def _resource() -> Any:
    resources = importlib.import_module("opentelemetry.sdk.resources")
    name = os.environ.get("OTEL_SERVICE_NAME") or "lora-operator"
    return resources.Resource.create({"service.name": name, "service.version": version("lora-operator")})


def _exporter(url: str) -> Any:
    """Return a processor that sends spans in the background; it drops some rather than hold up a pass."""
    export = importlib.import_module("opentelemetry.sdk.trace.export")
    otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    return export.BatchSpanProcessor(otlp.OTLPSpanExporter(endpoint=url))
