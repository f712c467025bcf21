"""Why a call fails: one exception, one constructor per reason of touchline.errors.v1.ErrorReason.

Messages, violations and metadata reach callers and may be logged: they never hold a personal value.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from touchline.errors.v1.error_reason_pb2 import ErrorReason

DOMAIN: Final = "touchline"
"""The domain of every ErrorInfo."""

STATUS_DETAILS: Final = "grpc-status-details-bin"
"""The trailing metadata that carries the google.rpc.Status, as gRPC libraries expect it."""

_STORE_RETRY_SECONDS = 1.0


class CallError(Exception):
    """A call fails for a reason that its caller can act on.

    Attributes:
        reason: The name in ErrorReason without its prefix, such as `QUEUE_FULL`.
        code: The gRPC status code.
        message: What happened, to what, and what to do.
        metadata: Facts for programs, as the reason's example shows.
        violations: (field path, description) of each broken rule.
        retry_after: Seconds after which the same call may succeed, or None.
    """

    def __init__(
        self,
        reason: ErrorReason.ValueType,
        code: StatusCode,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[tuple[str, str]] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = ErrorReason.Name(reason).removeprefix("ERROR_REASON_")
        self.code = code
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after = retry_after

    def status(self) -> Status:
        """Return the error as google.rpc.Status with one ErrorInfo (AIP-193)."""
        details: list[Message] = [
            ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)
        ]
        if self.violations:
            field_violations = [
                BadRequest.FieldViolation(field=field, description=description)
                for field, description in self.violations
            ]
            details.append(BadRequest(field_violations=field_violations))
        if self.retry_after is not None:
            details.append(RetryInfo(retry_delay=_duration(self.retry_after)))
        status = Status(code=self.code.value[0], message=self.message)
        status.details.extend(_packed(detail) for detail in details)
        return status


def invalid_request(violations: Sequence[tuple[str, str]]) -> CallError:
    """Return the error of a request with (field path, description) of at least one broken rule."""
    field, description = violations[0]
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    return CallError(
        ErrorReason.ERROR_REASON_INVALID_REQUEST,
        StatusCode.INVALID_ARGUMENT,
        f"The request is invalid: {field}: {description}{more}. Correct it and call again.",
        metadata={"field": field},
        violations=violations,
    )


def unknown_tenant(name: str) -> CallError:
    """Return the error of a call for a tenant that the settings do not name."""
    shown = name[:64]
    return CallError(
        ErrorReason.ERROR_REASON_UNKNOWN_TENANT,
        StatusCode.INVALID_ARGUMENT,
        f"The tenant {shown!r} is not known. Send a known one as the metadata touchline-tenant, or "
        "add it to TOUCHLINE_TENANTS of the service and start it again.",
        metadata={"tenant": shown},
    )


def profile_not_found() -> CallError:
    """Return the error of a reference that leads to no profile."""
    return CallError(
        ErrorReason.ERROR_REASON_PROFILE_NOT_FOUND,
        StatusCode.NOT_FOUND,
        "No profile has this id or identity. Check it, and if its first event was just recorded, "
        "send that event's position as after_position.",
    )


def invalid_page_token() -> CallError:
    """Return the error of a page token that is damaged or belongs to another call."""
    return CallError(
        ErrorReason.ERROR_REASON_INVALID_PAGE_TOKEN,
        StatusCode.INVALID_ARGUMENT,
        "The page token is damaged or belongs to a call with other filters. Send the "
        "next_page_token of the page before with the same filters, or start without a token.",
        violations=[("page_token", "is damaged, or belongs to a call with other filters")],
    )


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
        retry_after=_STORE_RETRY_SECONDS,
    )


def feed_unavailable(why: str) -> CallError:
    """Return the error of a feed that could not be begun anew, with the reason in words."""
    return CallError(
        ErrorReason.ERROR_REASON_STORE_UNAVAILABLE,
        StatusCode.UNAVAILABLE,
        f"The feed was not begun anew: {why}. Recording goes on, and projections read history. "
        "Look at NATS, and call again.",
        retry_after=_STORE_RETRY_SECONDS,
    )


def views_unavailable() -> CallError:
    """Return the error of a service whose own database cannot be reached."""
    return CallError(
        ErrorReason.ERROR_REASON_VIEWS_UNAVAILABLE,
        StatusCode.UNAVAILABLE,
        "The database of the views cannot be reached. Nothing is lost: events are recorded "
        "elsewhere. Call again.",
        retry_after=_STORE_RETRY_SECONDS,
    )


def store_full() -> CallError:
    """Return the error of an event store whose disk is full; trying again alone does not help."""
    return CallError(
        ErrorReason.ERROR_REASON_STORE_FULL,
        StatusCode.RESOURCE_EXHAUSTED,
        "The event store's disk is full; nothing of this call was recorded. Free room on it, then "
        "send the call again with the same event ids.",
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


def stale_version(name: str, version: int, expected_version: int) -> CallError:
    """Return the error of a change that was decided on a version that is not the latest."""
    return CallError(
        ErrorReason.ERROR_REASON_STALE_VERSION,
        StatusCode.ABORTED,
        f"{name} is at version {version}, and the call expects {expected_version}; nothing was "
        "changed. Read it again, and decide again.",
        metadata={
            "name": name,
            "version": str(version),
            "expected_version": str(expected_version),
        },
    )


def model_not_found(name: str) -> CallError:
    """Return the error of a scoring model that was never published."""
    return CallError(
        ErrorReason.ERROR_REASON_MODEL_NOT_FOUND,
        StatusCode.NOT_FOUND,
        f"No scoring model is named {name!r}. ListModels has the names; if it was just published, "
        "send that position as after_position.",
        metadata={"model": name},
    )


def model_building(name: str, retry_after: float) -> CallError:
    """Return the error of a scoring model of which no version has counted the past yet."""
    return CallError(
        ErrorReason.ERROR_REASON_MODEL_BUILDING,
        StatusCode.UNAVAILABLE,
        f"The scoring model {name!r} is new and still counts the past. Call again after "
        f"{retry_after:g} s; ListModels says how far it is.",
        metadata={"model": name},
        retry_after=retry_after,
    )


def notification_not_found() -> CallError:
    """Return the error of a notification that is not known, or is not delivered on a channel."""
    return CallError(
        ErrorReason.ERROR_REASON_NOTIFICATION_NOT_FOUND,
        StatusCode.NOT_FOUND,
        "No notification has this id, or it has no delivery on that channel. Check both, and if it "
        "was just decided, call again.",
    )


def event_not_found() -> CallError:
    """Return the error of an event_id that no projection has seen."""
    return CallError(
        ErrorReason.ERROR_REASON_EVENT_NOT_FOUND,
        StatusCode.NOT_FOUND,
        "No event with this id has been seen. Check it, and if it was just recorded, send its "
        "position as after_position.",
    )


def expectation_not_found() -> CallError:
    """Return the error of an expectation_id that names no promise."""
    return CallError(
        ErrorReason.ERROR_REASON_EXPECTATION_NOT_FOUND,
        StatusCode.NOT_FOUND,
        "No promise has this expectation_id, or its customer was erased. Check it; what a rule or "
        "another system made the customer expect is ended by recording ExpectationResolved.",
    )


def expectation_ended() -> CallError:
    """Return the error of a promise that was kept or withdrawn already."""
    return CallError(
        ErrorReason.ERROR_REASON_EXPECTATION_ENDED,
        StatusCode.FAILED_PRECONDITION,
        "The promise was kept or withdrawn already; nothing was changed. ListExpectations says how "
        "and when. What the customer awaits from now on is another promise.",
    )


def expectation_exists() -> CallError:
    """Return the error of a promise whose expectation_id another one has."""
    return CallError(
        ErrorReason.ERROR_REASON_EXPECTATION_EXISTS,
        StatusCode.ALREADY_EXISTS,
        "Another expectation has this expectation_id; nothing was changed. Give the promise an id "
        "of its own, or renegotiate the one that is there.",
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


def internal(trace_id: str = "") -> CallError:
    """Return the error of a defect of ours; the service's log tells it under the trace id."""
    where = f"under trace id {trace_id}" if trace_id else "at this time"
    return CallError(
        ErrorReason.ERROR_REASON_INTERNAL,
        StatusCode.INTERNAL,
        f"Touchline failed in a way it should not. The service's log has the details {where}; "
        "please report them.",
        metadata={"trace_id": trace_id} if trace_id else {},
    )


def deadline_exceeded() -> CallError:
    """Return the error of an answer that was not ready in time."""
    return CallError(
        ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED,
        StatusCode.DEADLINE_EXCEEDED,
        "The deadline passed before the answer was ready. Call again with a longer deadline or "
        "for less; what is recorded needs the same event ids.",
    )


def _packed(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1_000_000))
    return duration
