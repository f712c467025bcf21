"""The server span of a call, in the terms of OpenTelemetry's semantic conventions 1.44."""

from typing import Any, Final

import grpc
from opentelemetry.trace import Span, SpanKind, StatusCode

from libs import telemetry
from libs.telemetry import tracing

# Those that the conventions count as failures of the server; the others are the caller's.
_SERVER_FAILURES: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
_NAMES: Final[dict[int, str]] = {code.value[0]: code.name for code in grpc.StatusCode}


def started(method: str) -> Span | None:
    """Start the span of a call under its caller's and make it current; None without an exporter.

    Args:
        method: Fully qualified, such as `touchline.ingestion.v1.IngestionService/RecordEvent`.
    """
    if not tracing.is_exporting() or method.startswith("grpc."):
        return None
    span = tracing.start_span(
        method,
        SpanKind.SERVER,
        {"rpc.system.name": "grpc", "rpc.method": method},
        parent=telemetry.current_traceparent(),
    )
    # A call's task ends with it, and its context with that: nothing to put back.
    telemetry.carry(tracing.traceparent_of(span))
    return span


def ended(span: Span, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """End the span of a call with the status that the call ended with."""
    if span.is_recording():
        code = "CANCELLED" if context.cancelled() else _name(context.code())
        span.set_attribute("rpc.response.status_code", code)
        if code in _SERVER_FAILURES:
            span.set_attribute("error.type", code)
            span.set_status(StatusCode.ERROR)
    span.end()


def _name(code: Any) -> str:
    if isinstance(code, grpc.StatusCode):
        return code.name
    return _NAMES.get(int(code or 0), "UNKNOWN")
