"""Errors about what people publish and promise: models, notifications and expectations."""

from grpc import StatusCode

from libs.rpc.errors.call_error import CallError
from touchline.errors.v1.error_reason_pb2 import ErrorReason


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
