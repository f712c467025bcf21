"""Errors of what keeps events: the store, its feed and what was rejected."""

from grpc import StatusCode

from libs.rpc.errors.call_error import RETRY_SECONDS, CallError
from touchline.errors.v1.error_reason_pb2 import ErrorReason


def queue_full(queued: int, retry_after: float) -> CallError:
    """Return the error of an append queue that holds `queued` events and takes no more for now."""
    return CallError(
        ErrorReason.ERROR_REASON_QUEUE_FULL,
        StatusCode.RESOURCE_EXHAUSTED,
        f"The append queue is full with {queued} events; nothing of this call was recorded. Send "
        f"it again with the same event ids after {retry_after:g} s.",
        metadata={"queued": str(queued)},
        retry_after=retry_after,
    )


def store_unavailable() -> CallError:
    """Return the error of an event store that cannot be reached."""
    return CallError(
        ErrorReason.ERROR_REASON_STORE_UNAVAILABLE,
        StatusCode.UNAVAILABLE,
        "The event store cannot be reached; it is not known whether anything was recorded. Call "
        "again with the same event ids: what was recorded answers DUPLICATE.",
        retry_after=RETRY_SECONDS,
    )


def feed_unavailable(why: str) -> CallError:
    """Return the error of a feed that could not be begun anew, with the reason in words."""
    return CallError(
        ErrorReason.ERROR_REASON_STORE_UNAVAILABLE,
        StatusCode.UNAVAILABLE,
        f"The feed was not begun anew: {why}. Recording goes on, and projections read history. "
        "Look at NATS, and call again.",
        retry_after=RETRY_SECONDS,
    )


def store_full() -> CallError:
    """Return the error of an event store whose disk is full; trying again alone does not help."""
    return CallError(
        ErrorReason.ERROR_REASON_STORE_FULL,
        StatusCode.RESOURCE_EXHAUSTED,
        "The event store's disk is full; nothing of this call was recorded. Free room on it, then "
        "send the call again with the same event ids.",
    )


def event_not_found() -> CallError:
    """Return the error of an event_id that no projection has seen."""
    return CallError(
        ErrorReason.ERROR_REASON_EVENT_NOT_FOUND,
        StatusCode.NOT_FOUND,
        "No event with this id has been seen. Check it, and if it was just recorded, send its "
        "position as after_position.",
    )


def rejected_event_not_found(rejected_id: int) -> CallError:
    """Return the error of a rejected event that is not kept, or no longer."""
    return CallError(
        ErrorReason.ERROR_REASON_REJECTED_EVENT_NOT_FOUND,
        StatusCode.NOT_FOUND,
        f"No rejected event has the number {rejected_id}; it may have been recorded or discarded. "
        "ListRejectedEvents has those that are kept.",
        metadata={"rejected_id": str(rejected_id)},
    )
