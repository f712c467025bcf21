"""Errors of what is folded from events, and of the database that keeps it."""

from grpc import StatusCode

from libs.rpc.errors.call_error import RETRY_SECONDS, CallError
from touchline.errors.v1.error_reason_pb2 import ErrorReason


def views_unavailable() -> CallError:
    """Return the error of a service whose own database cannot be reached."""
    return CallError(
        ErrorReason.ERROR_REASON_VIEWS_UNAVAILABLE,
        StatusCode.UNAVAILABLE,
        "The database of the views cannot be reached. Nothing is lost: events are recorded "
        "elsewhere. Call again.",
        retry_after=RETRY_SECONDS,
    )


def projection_behind(name: str, position: int, after_position: int) -> CallError:
    """Return the error of a projection that did not reach `after_position` within the deadline."""
    return CallError(
        ErrorReason.ERROR_REASON_PROJECTION_BEHIND,
        StatusCode.DEADLINE_EXCEEDED,
        f"The projection {name} came to position {position} and not to {after_position} before the "
        "deadline. Call again, with a longer deadline, or without after_position.",
        metadata={
            "projection": name,
            "position": str(position),
            "after_position": str(after_position),
        },
    )


def projection_halted(name: str) -> CallError:
    """Return the error of a projection that stopped rather than skip."""
    return CallError(
        ErrorReason.ERROR_REASON_PROJECTION_HALTED,
        StatusCode.FAILED_PRECONDITION,
        f"The projection {name} halted because what it read does not continue what it has. "
        "`touchline status` says why; an operator has to act.",
        metadata={"projection": name},
    )


def projection_not_found(name: str) -> CallError:
    """Return the error of a projection that the service does not have."""
    shown = name[:64]
    return CallError(
        ErrorReason.ERROR_REASON_PROJECTION_NOT_FOUND,
        StatusCode.NOT_FOUND,
        f"The service has no projection {shown!r}. ListProjections names those it has.",
        metadata={"projection": shown},
    )


def projection_unverifiable(name: str, why: str) -> CallError:
    """Return the error of a projection that can't be compared with a copy of it.

    Args:
        name: The projection.
        why: What is in the way, and what to do about it.
    """
    return CallError(
        ErrorReason.ERROR_REASON_PROJECTION_UNVERIFIABLE,
        StatusCode.FAILED_PRECONDITION,
        f"The projection {name} can't be verified: {why}",
        metadata={"projection": name},
    )
