"""Spans, exported over OTLP when an endpoint is set and otherwise not made at all."""

import os
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, TraceFlags
from opentelemetry.util.types import AttributeValue

from libs.telemetry import context, logs

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_FLUSH_SECONDS: Final = 2.0

_tracer: trace.Tracer | None = None


@dataclass(frozen=True, slots=True)
class Telemetry:
    """A process's telemetry while it runs; `shutdown` flushes what is not yet exported."""

    service: str
    provider: TracerProvider | None

    @property
    def exporting(self) -> bool:
        """Whether spans are made and exported."""
        return self.provider is not None

    def shutdown(self) -> None:
        """Export what is left, giving the receiver two seconds: a stop must not hang on it."""
        global _tracer
        if self.provider is not None:
            _tracer = None
            flush = threading.Thread(target=self.provider.shutdown, daemon=True)
            flush.start()
            flush.join(_FLUSH_SECONDS)


def setup(service: str) -> Telemetry:
    """Set up logs and traces of a process; call it once, first, in `__main__`.

    Spans are made only when OTEL_EXPORTER_OTLP_ENDPOINT is set. The SDK's own variables hold, such
    as OTEL_TRACES_SAMPLER (default: parent-based, all of it) and OTEL_RESOURCE_ATTRIBUTES. Without
    an endpoint a caller's traceparent is still carried and passed on.

    Args:
        service: The service's name, such as `ingestion`.

    Raises:
        ValueError: TOUCHLINE_LOG or TOUCHLINE_LOG_LEVEL is not one of its values.
    """
    global _tracer
    logs.configure(service)
    if not any(os.environ.get(variable) for variable in ENDPOINT_VARIABLES):
        return Telemetry(service, None)
    # The exporter brings the synchronous gRPC stack: not worth its start-up time when unused.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    resource = Resource.create(
        {
            "service.name": service,
            "service.namespace": "touchline",
            "service.instance.id": str(uuid.uuid4()),
        }
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("touchline")
    return Telemetry(service, provider)


def is_exporting() -> bool:
    """Return whether spans are made; where they are not, what leads to them can be skipped."""
    return _tracer is not None


def start_span(
    name: str,
    kind: SpanKind,
    attributes: Mapping[str, AttributeValue],
    *,
    parent: str = "",
    links: Iterable[str] = (),
) -> Span:
    """Start a span that the caller ends, without making it the current one.

    Args:
        name: Of low cardinality, without values.
        kind: Its place between caller and callee.
        attributes: Nothing personal.
        parent: A traceparent; empty: it starts a trace.
        links: Traceparents, known now: samplers see only links given at the start.
    """
    if _tracer is None:
        return trace.INVALID_SPAN
    remote = otel_context.Context()
    if parent:
        remote = trace.set_span_in_context(trace.NonRecordingSpan(_span_context(parent)), remote)
    return _tracer.start_span(
        name, remote, kind, attributes, links=[Link(_span_context(link)) for link in links]
    )


@contextmanager
def span(
    name: str,
    kind: SpanKind,
    attributes: Mapping[str, AttributeValue],
    *,
    parent: str = "",
    links: Iterable[str] = (),
) -> Iterator[Span]:
    """Run a block in a span that is the current one; an error marks it with its type alone.

    Where nothing is exported the block runs with `parent` as its traceparent.
    """
    before = context.current_traceparent()
    started = start_span(name, kind, attributes, parent=parent, links=links)
    context.carry(traceparent_of(started) or parent)
    try:
        yield started
    except Exception as error:
        started.set_attribute("error.type", type(error).__qualname__)
        started.set_status(trace.StatusCode.ERROR)
        raise
    finally:
        started.end()
        context.carry(before)


def traceparent_of(started: Span) -> str:
    """Return a span's traceparent, or an empty string for one that is none."""
    made = started.get_span_context()
    if not made.is_valid:
        return ""
    return f"00-{made.trace_id:032x}-{made.span_id:016x}-{made.trace_flags:02x}"


def _span_context(traceparent: str) -> SpanContext:
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )
