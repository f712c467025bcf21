"""Spans, made only where something exports them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    TracerProvider,
)
from opentelemetry.util.types import AttributeValue

from libs.telemetry import context

_tracer: trace.Tracer | None = None


def start(provider: TracerProvider) -> None:
    """Make spans from now on."""
    global _tracer
    _tracer = provider.get_tracer("touchline")


def stop() -> None:
    """Make no spans any more."""
    global _tracer
    _tracer = None


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
