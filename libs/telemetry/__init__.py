"""Traces and logs of a process: `setup` once, then `current_traceparent` where events are made."""

from libs.telemetry.context import TRACEPARENT, carry, current_trace_id, current_traceparent
from libs.telemetry.tracing import Telemetry, setup

__all__ = [
    "TRACEPARENT",
    "Telemetry",
    "carry",
    "current_trace_id",
    "current_traceparent",
    "setup",
]
