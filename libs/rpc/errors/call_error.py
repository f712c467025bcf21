"""The exception that every failed call raises, and how gRPC carries it."""

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

RETRY_SECONDS: Final = 1.0
"""When to come again after something could not be reached."""


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


def _packed(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1_000_000))
    return duration
