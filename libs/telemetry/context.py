"""The trace that the running task belongs to, as a W3C traceparent.

It is kept as text, since that is what is stored with events and sent in headers; spans are made of
it only where something exports them.
"""

import re
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import Final

TRACEPARENT: Final = "traceparent"
"""The header and metadata key, as W3C Trace Context names it."""

_carried: ContextVar[str] = ContextVar("touchline_traceparent", default="")
_FORMAT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def carry(traceparent: str) -> None:
    """Make this the current traceparent of the running task; a malformed one counts as none.

    What is malformed is dropped rather than refused: W3C Trace Context asks for it, and a caller's
    telemetry must not decide whether its events are recorded.
    """
    valid = not traceparent or _FORMAT.fullmatch(traceparent)
    _carried.set(traceparent if valid else "")


def current_traceparent() -> str:
    """Return the traceparent to store or to send on, or an empty string when there is no trace."""
    return _carried.get()


def current_trace_id() -> str:
    """Return the current trace's id, 32 hexadecimal digits, or an empty string."""
    return _carried.get()[3:35]


def only_trace(traceparents: Sequence[str]) -> str:
    """Return the first of valid traceparents if all are of one trace, else an empty string."""
    of_one = len({traceparent[3:35] for traceparent in traceparents}) == 1
    return traceparents[0] if of_one else ""


def traceparents_among(candidates: Iterable[str], limit: int) -> list[str]:
    """Return the first `limit` distinct valid traceparents, in their order."""
    distinct: dict[str, None] = {}
    for candidate in candidates:
        if candidate not in distinct and _FORMAT.fullmatch(candidate):
            distinct[candidate] = None
            if len(distinct) == limit:
                break
    return list(distinct)
