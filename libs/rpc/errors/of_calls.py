"""Errors of any call: what was asked can't be understood, or not answered."""

from collections.abc import Sequence

from grpc import StatusCode

from libs.rpc.errors.call_error import CallError
from touchline.errors.v1.error_reason_pb2 import ErrorReason


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


def invalid_page_token() -> CallError:
    """Return the error of a page token that is damaged or belongs to another call."""
    return CallError(
        ErrorReason.ERROR_REASON_INVALID_PAGE_TOKEN,
        StatusCode.INVALID_ARGUMENT,
        "The page token is damaged or belongs to a call with other filters. Send the "
        "next_page_token of the page before with the same filters, or start without a token.",
        violations=[("page_token", "is damaged, or belongs to a call with other filters")],
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
