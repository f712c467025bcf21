"""Which traces an append and a batch of the feed belong to, and how long an append takes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from google.protobuf.message import DecodeError
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from libs.telemetry import declared, metrics, tracing
from libs.telemetry.context import only_trace, traceparents_among
from libs.telemetry.messaging import MAXIMUM_LINKS
from touchline.store.v1.store_pb2 import EventBatch, RecordedEvent

_PROCEDURE = "append_events"


@contextmanager
def appending(traceparents: Sequence[str], events: int) -> Iterator[None]:
    """Run an append in a span that is linked to its requests' traces, and record how long it took.

    Args:
        traceparents: Of the requests that share it; empty for one that has none.
        events: How many they have.
    """
    if not (tracing.is_exporting() or metrics.is_exporting()):
        yield
        return
    links = traceparents_among(traceparents, MAXIMUM_LINKS)
    attributes: dict[str, AttributeValue] = {
        declared.DATABASE_SYSTEM: "postgresql",
        declared.DATABASE_PROCEDURE: _PROCEDURE,
        declared.APPEND_REQUESTS: len(traceparents),
    }
    if events != 1:
        attributes[declared.DATABASE_BATCH] = events
    failed: dict[str, AttributeValue] = {}
    started = time.perf_counter()
    with tracing.span(
        _PROCEDURE, SpanKind.CLIENT, attributes, parent=only_trace(links), links=links
    ) as span:
        try:
            yield
            metrics.record(declared.APPEND_EVENTS, events)
        except Exception as error:
            failed[declared.ERROR_TYPE] = type(error).__qualname__
            raise
        finally:
            seconds = time.perf_counter() - started
            metrics.record(declared.APPEND_DURATION, seconds, failed, span=span)


def traceparents_of(batch: EventBatch) -> Iterator[str]:
    """Yield the traceparents of a batch's events; none where nothing is exported."""
    if not tracing.is_exporting():
        return
    for event in batch.events:
        try:
            yield RecordedEvent.FromString(event.record).traceparent
        except DecodeError:  # whoever folds it says so; a trace must not stop the feed
            continue
