"""Traces over NATS: headers that carry them, and the spans of sending and processing.

Names and attributes follow OpenTelemetry's semantic conventions for messaging. Subjects hold
nothing personal (invariant 11), so they may name spans.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry.trace import Span, SpanKind
from opentelemetry.util.types import AttributeValue

from libs.telemetry import context, declared, metrics, tracing

MAXIMUM_LINKS: Final = 32
"""Distinct traces that the span of one batch links to; a batch may hold a thousand."""


def headers_with_trace(headers: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return message headers with the current traceparent, if there is one."""
    traceparent = context.current_traceparent()
    carried = {context.TRACEPARENT: traceparent} if traceparent else {}
    return {**(headers or {}), **carried}


def traceparent_in(headers: Mapping[str, str] | None) -> str:
    """Return the traceparent of a received message, or an empty string when it has no valid one."""
    found = (headers or {}).get(context.TRACEPARENT, "")
    return next(iter(context.traceparents_among([found], 1)), "")


@contextmanager
def send(subject: str, traceparents: Iterable[str] = (), *, messages: int = 1) -> Iterator[Span]:
    """Run the sending of a message or batch in a span; take `headers_with_trace()` inside.

    Args:
        subject: Where to.
        traceparents: Of the events in it.
        messages: How many are sent.
    """
    # A request that is being served goes on in its own trace; a relay has none of its own.
    current = context.current_traceparent()
    with _span("send", SpanKind.PRODUCER, subject, traceparents, messages, current) as span:
        yield span


@contextmanager
def process(
    subject: str,
    traceparents: Iterable[str],
    *,
    messages: int = 1,
    attributes: metrics.Attributes | None = None,
) -> Iterator[Span]:
    """Run the processing of a message or batch in one span, linked to the traces in it.

    Where all of them are of one trace, the first is also the span's parent, so that an event's
    trace reads as one; a batch with several traces starts one of its own.

    Args:
        subject: Where it came from.
        traceparents: Of the messages or the events in them, any number; at most MAXIMUM_LINKS
            distinct ones become links.
        messages: How many are processed.
        attributes: Of the span and of its duration, among those declared.
    """
    kind = SpanKind.CONSUMER
    with _span("process", kind, subject, traceparents, messages, "", attributes) as span:
        yield span


@contextmanager
def _span(
    operation: str,
    kind: SpanKind,
    subject: str,
    traceparents: Iterable[str],
    messages: int,
    parent: str,
    more: metrics.Attributes | None = None,
) -> Iterator[Span]:
    links = context.traceparents_among(traceparents, MAXIMUM_LINKS)
    if not parent:
        parent = context.only_trace(links)
    measured: dict[str, AttributeValue] = {
        declared.MESSAGING_SYSTEM: "nats",
        declared.MESSAGING_OPERATION: operation,
        declared.MESSAGING_DESTINATION: subject,
        **(more or {}),
    }
    attributes = {**measured, declared.MESSAGING_OPERATION_TYPE: operation}
    if messages != 1:
        attributes[declared.MESSAGING_COUNT] = messages
    with (
        _timed(operation, measured),
        tracing.span(
            f"{operation} {subject}", kind, attributes, parent=parent, links=links
        ) as span,
    ):
        yield span


@contextmanager
def _timed(operation: str, attributes: dict[str, AttributeValue]) -> Iterator[None]:
    metric = declared.PROCESS_DURATION if operation == "process" else declared.SEND_DURATION
    started = time.perf_counter()
    try:
        yield
    except Exception as error:
        attributes[declared.ERROR_TYPE] = type(error).__qualname__
        raise
    finally:
        metrics.record(metric, time.perf_counter() - started, attributes)
