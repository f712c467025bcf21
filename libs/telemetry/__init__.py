"""Traces, metrics and logs of a process: `setup` once, first of all."""

from libs.telemetry.context import TRACEPARENT, carry, current_trace_id, current_traceparent
from libs.telemetry.export import Telemetry, setup

__all__ = [
    "TRACEPARENT",
    "Telemetry",
    "carry",
    "current_trace_id",
    "current_traceparent",
    "setup",
]
