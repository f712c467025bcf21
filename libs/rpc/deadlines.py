"""How long a call may take: never for ever, and never longer than its caller waits."""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import grpc

_imposed_end: ContextVar[float | None] = ContextVar("touchline_imposed_end", default=None)

_ANSWER_TRAVELS_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Bounds on the time of unary calls, in seconds; streams have none.

    Attributes:
        default: What a call without a deadline gets.
        maximum: What a call with a longer one gets.
    """

    default: float = 30.0
    maximum: float = 60.0

    def imposed(self, context: grpc.aio.ServicerContext[Any, Any]) -> float | None:
        """Return the seconds to enforce here, or None where gRPC enforces the caller's deadline."""
        theirs: float | None = context.time_remaining()
        if theirs is not None and theirs <= self.maximum:
            return None
        seconds = self.default if theirs is None else self.maximum
        _imposed_end.set(asyncio.get_running_loop().time() + seconds)
        return seconds


def remaining(
    context: grpc.aio.ServicerContext[Any, Any], margin: float = _ANSWER_TRAVELS_SECONDS
) -> float:
    """Return the seconds a handler may still wait, at least 0.

    Args:
        context: The call.
        margin: Seconds kept back, so that an answer such as PROJECTION_BEHIND still arrives.

    Returns:
        Infinity for a stream whose caller set no deadline.
    """
    theirs: float | None = context.time_remaining()
    end = _imposed_end.get()
    ours = float("inf") if end is None else end - asyncio.get_running_loop().time()
    return max(0.0, min(ours, float("inf") if theirs is None else theirs) - margin)
