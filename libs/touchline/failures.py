"""What a failed call tells its caller."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import grpc
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status

MESSAGE_TOO_LARGE: Final = "MESSAGE_TOO_LARGE"
"""The reason given here to a call that gRPC itself refused for its size."""

NOT_BEGUN: Final = "touchline-not-begun"
"""The trailing metadata of a call that a process refused, for it stops, before it did anything."""

_STATUS_DETAILS = "grpc-status-details-bin"
# What gRPC for Python reports when a connection breaks while a stream is written.
_WRITE_BROKE = "Internal error from Core"
_TOO_LARGE = re.compile(r"essage larger than max \((\d+) vs\. (\d+)\)")


class CallFailed(Exception):  # a past-tense fact, as events are
    """A call to Touchline failed; its text says what happened and what to do.

    Attributes:
        code: The gRPC status code; UNAVAILABLE also where a connection broke while a stream was
            written, for which gRPC says INTERNAL.
        reason: The name in touchline.errors.v1.ErrorReason without its prefix, such as
            `QUEUE_FULL`; empty when the failure did not come from Touchline, such as when nothing
            answers.
        message: What happened, to what, and what to do.
        violations: (field path, description) of each broken rule.
        metadata: Facts for programs, as the reason's example shows.
        retry_after: Seconds after which the same call may succeed, or None.
        not_begun: Whether nothing was done: the process that was called stops, and refused it.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        violations: tuple[tuple[str, str], ...] = (),
        metadata: dict[str, str] | None = None,
        retry_after: float | None = None,
        not_begun: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.violations = violations
        self.metadata = metadata or {}
        self.retry_after = retry_after
        self.not_begun = not_begun

    def __str__(self) -> str:
        text = f"{self.message} [{self.reason or self.code.name}]"
        if len(self.violations) < 2:  # the message tells a single one
            return text
        return text + "".join(f"\n  {field}: {rule}" for field, rule in self.violations)

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> "CallFailed":
        """Return what a gRPC error tells, read from its google.rpc.Status where it has one."""
        reason, metadata, retry_after = "", {}, None
        violations: tuple[tuple[str, str], ...] = ()
        for detail in _status_of(error).details:
            if detail.Is(ErrorInfo.DESCRIPTOR):
                info = ErrorInfo.FromString(detail.value)
                reason, metadata = info.reason, dict(info.metadata)
            elif detail.Is(BadRequest.DESCRIPTOR):
                broken = BadRequest.FromString(detail.value).field_violations
                violations = tuple((each.field, each.description) for each in broken)
            elif detail.Is(RetryInfo.DESCRIPTOR):
                delay = RetryInfo.FromString(detail.value).retry_delay
                retry_after = delay.ToMicroseconds() / 1_000_000
        code = error.code()
        message = error.details() or f"The call failed with {code.name}."
        if code is grpc.StatusCode.INTERNAL and message == _WRITE_BROKE:
            code, message = grpc.StatusCode.UNAVAILABLE, "the connection broke"
        if not reason:
            reason, message = _without_status(code, message)
        return cls(
            code,
            message,
            reason=reason,
            violations=violations,
            metadata=metadata,
            retry_after=retry_after,
            not_begun=NOT_BEGUN in dict(error.trailing_metadata() or ()),
        )


@contextmanager
def readable_failures() -> Iterator[None]:
    """Turn gRPC's errors in the block into CallFailed.

    Raises:
        CallFailed: A call in the block failed.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise CallFailed.of(error) from error


def _status_of(error: grpc.aio.AioRpcError) -> Status:
    for key, value in error.trailing_metadata() or ():
        if key == _STATUS_DETAILS and isinstance(value, bytes):
            return Status.FromString(value)
    return Status()


def _without_status(code: grpc.StatusCode, message: str) -> tuple[str, str]:
    """Return the reason and message of a failure that gRPC, not Touchline, reports."""
    sizes = _TOO_LARGE.search(message)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and sizes:
        has, may_have = (int(size) / (1 << 20) for size in sizes.groups())
        return MESSAGE_TOO_LARGE, (
            f"The message has {has:.1f} MiB and may have {may_have:.1f}. Send fewer events in a "
            "call or shorter texts; ask for smaller pages."
        )
    if code is grpc.StatusCode.UNAVAILABLE:
        why = message.rstrip(".")
        return "", f"Touchline does not answer: {why}. Check its address and that it runs."
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "", "The deadline passed before Touchline answered. Call again with a longer one."
    return "", message
