"""What a process exports over OTLP: spans and metrics, and nothing where no endpoint is set."""

import os
import threading
import time
import uuid
from collections.abc import Callable
from typing import Final

from opentelemetry.metrics import MeterProvider as AnyMeterProvider
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource

from libs.telemetry import logs, metrics, tracing

_FLUSH_SECONDS: Final = 2.0


class Telemetry:
    """A process's telemetry while it runs.

    Attributes:
        exporting: Whether anything is exported.
    """

    def __init__(self, *flushes: Callable[[], object]) -> None:
        self.exporting = bool(flushes)
        self._flushes = list(flushes)

    def shutdown(self) -> None:
        """Export what is left, giving the receiver two seconds: a stop must not hang on it."""
        tracing.stop()
        metrics.stop()
        threads = [threading.Thread(target=flush, daemon=True) for flush in self._flushes]
        self._flushes.clear()
        for thread in threads:
            thread.start()
        end = time.monotonic() + _FLUSH_SECONDS
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))


def setup(service: str) -> Telemetry:
    """Set up logs, traces and metrics of a process; call it once, first, in `__main__`.

    Spans and metrics are made only when OTEL_EXPORTER_OTLP_ENDPOINT is set, or the variant of one
    of them. The SDK's own variables hold, such as OTEL_TRACES_SAMPLER (default: parent-based, all
    of it), OTEL_METRIC_EXPORT_INTERVAL and OTEL_RESOURCE_ATTRIBUTES. Without an endpoint a caller's
    traceparent is still carried and passed on.

    Args:
        service: The service's name, such as `ingestion`.

    Raises:
        ValueError: TOUCHLINE_LOG or TOUCHLINE_LOG_LEVEL is not one of its values.
    """
    logs.configure(service)
    flushes: list[Callable[[], object]] = []
    if not (_wanted("TRACES") or _wanted("METRICS")):
        return Telemetry()
    resource = Resource.create(
        {
            "service.name": service,
            "service.namespace": "touchline",
            "service.instance.id": str(uuid.uuid4()),
        }
    )
    told: AnyMeterProvider = NoOpMeterProvider()
    if _wanted("METRICS"):
        told, flush = _start_metrics(resource)
        flushes.append(flush)
    if _wanted("TRACES"):
        flushes.append(_start_traces(resource, told))
    return Telemetry(*flushes)


# The exporters bring the synchronous gRPC stack: not worth its start-up time when unused.


def _start_metrics(resource: Resource) -> tuple[AnyMeterProvider, Callable[[], object]]:
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    # Only the environment tells the SDK to count the spans that it drops.
    os.environ.setdefault("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    silent = NoOpMeterProvider()
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(meter_provider=silent))
    provider = MeterProvider([reader], resource, shutdown_on_exit=False)
    metrics.start(provider)
    return provider, provider.shutdown


def _start_traces(resource: Resource, told: AnyMeterProvider) -> Callable[[], object]:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # Counting each span as it starts would cost as much as a third of making it.
    provider = TracerProvider(
        resource=resource, shutdown_on_exit=False, meter_provider=NoOpMeterProvider()
    )
    exporter = OTLPSpanExporter(meter_provider=told)
    provider.add_span_processor(BatchSpanProcessor(exporter, meter_provider=told))
    tracing.start(provider)
    return provider.shutdown


def _wanted(signal: str) -> bool:
    """Return whether a signal, TRACES or METRICS, is to be exported."""
    if os.environ.get(f"OTEL_{signal}_EXPORTER", "").strip() == "none":
        return False
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return any(os.environ.get(endpoint) for endpoint in endpoints)
