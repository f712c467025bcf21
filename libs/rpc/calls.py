"""The span and the duration of a call, in the terms of OpenTelemetry's conventions 1.44."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import grpc
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode
from opentelemetry.util.types import AttributeValue

from libs import telemetry
from libs.rpc.errors import CallError
from libs.telemetry import declared, metrics, tracing

# Those that the conventions count as failures of the server; the others are the caller's.
_SERVER_FAILURES: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
_NAMES: Final[dict[int, str]] = {code.value[0]: code.name for code in grpc.StatusCode}


class Call(NamedTuple):
    """A call that is being answered: its span, what its duration tells, and when it began."""

    span: Span
    attributes: dict[str, AttributeValue]
    started: float


def started(method: str, system: str = "grpc") -> Call | None:
    """Start the span of a call under its caller's and make it current; None without an exporter.

    Args:
        method: Fully qualified, such as `touchline.ingestion.v1.IngestionService/RecordEvent`.
        system: `grpc`, or `nats`, where what polls is no trace's beginning.
    """
    exporting = tracing.is_exporting() or metrics.is_exporting()
    if not exporting or method.startswith("grpc."):
        return None
    began = time.perf_counter()
    attributes: dict[str, AttributeValue] = {
        declared.RPC_SYSTEM: system,
        declared.RPC_METHOD: method,
    }
    parent = telemetry.current_traceparent()
    span: Span = INVALID_SPAN
    if parent or system == "grpc":
        span = tracing.start_span(method, SpanKind.SERVER, attributes, parent=parent)
    # A call's task ends with it, and its context with that: nothing to put back.
    telemetry.carry(tracing.traceparent_of(span) or parent)
    return Call(span, attributes, began)


def ended(call: Call, status: str, *, failed: bool) -> None:
    """End the span of a call and record its duration.

    Args:
        call: What `started` returned.
        status: How the call ended, such as `NOT_FOUND`.
        failed: Whether that is the server's fault, and none of the caller's.
    """
    span, attributes, began = call
    attributes[declared.RPC_STATUS] = status
    if failed:
        attributes[declared.ERROR_TYPE] = status
    if span.is_recording():
        span.set_attributes(attributes)
        if failed:
            span.set_status(StatusCode.ERROR)
    metrics.record(declared.CALL_DURATION, time.perf_counter() - began, attributes, span=span)
    span.end()


def ended_grpc(call: Call, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """End the span of a gRPC call with the status that its context has."""
    status = "CANCELLED" if context.cancelled() else _name(context.code())
    ended(call, status, failed=status in _SERVER_FAILURES)


@contextmanager
def answering(method: str) -> Iterator[None]:
    """Give the answer to one message of a stream a span and a duration, as if it were a call.

    Run it in a task of its own: the span stays that task's current one.

    Args:
        method: Fully qualified, that of the stream.
    """
    call = started(method)
    status = "OK"
    try:
        yield
    except asyncio.CancelledError:
        status = "CANCELLED"
        raise
    except CallError as error:
        status = error.code.name
        raise
    except Exception:
        status = "INTERNAL"
        raise
    finally:
        if call is not None:
            ended(call, status, failed=status in _SERVER_FAILURES)


def _name(code: Any) -> str:
    if isinstance(code, grpc.StatusCode):
        return code.name
    return _NAMES.get(int(code or 0), "UNKNOWN")
