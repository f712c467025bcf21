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


def projection_paused(name: str) -> CallError:
    """Return the error of a projection that somebody paused before the asked-for position."""
    return CallError(
        ErrorReason.ERROR_REASON_PROJECTION_PAUSED,
        StatusCode.FAILED_PRECONDITION,
        f"The projection {name} is paused, and has not come so far. `touchline projections` says "
        "why; ask without after_position for what there is.",
        metadata={"projection": name},
    )


def views_building(name: str) -> CallError:
    """Return the error of a service that builds what its release reads."""
    return CallError(
        ErrorReason.ERROR_REASON_VIEWS_BUILDING,
        StatusCode.UNAVAILABLE,
        f"The service was upgraded and builds its {name} anew. Nothing is lost. Call again later; "
        "`touchline projections` says how far it is.",
        metadata={"projection": name},
        retry_after=RETRY_SECONDS,
    )


def rebuild_under_way(name: str, generation: int) -> CallError:
    """Return the error of a rebuild that was asked for twice."""
    return CallError(
        ErrorReason.ERROR_REASON_REBUILD_UNDER_WAY,
        StatusCode.FAILED_PRECONDITION,
        f"Generation {generation} of {name} is being built, or waits to be switched to. Watch it, "
        "switch to it, or drop it; then begin another.",
        metadata={"projection": name, "generation": str(generation)},
    )


def generation_not_found(name: str, generation: int, what: str) -> CallError:
    """Return the error of a generation that is not there.

    Args:
        name: The projection.
        generation: Which one; 0: none was named.
        what: What there is none to do with, such as `to roll back to`.
    """
    which = f"no generation {generation}" if generation else f"no generation {what}"
    return CallError(
        ErrorReason.ERROR_REASON_GENERATION_NOT_FOUND,
        StatusCode.NOT_FOUND,
        f"The projection {name} has {which}. ListProjections names those it has.",
        metadata={"projection": name, "generation": str(generation)},
    )


def generation_not_ready(name: str, generation: int, state: str, why: str) -> CallError:
    """Return the error of a generation that can't do that in its state.

    Args:
        name: The projection.
        generation: Which one.
        state: Such as `filling`.
        why: What is in the way, and what to do about it; a sentence.
    """
    return CallError(
        ErrorReason.ERROR_REASON_GENERATION_NOT_READY,
        StatusCode.FAILED_PRECONDITION,
        f"Generation {generation} of {name} is {state}. {why}",
        metadata={"projection": name, "generation": str(generation), "state": state},
    )


def generations_differ(name: str, generation: int, differing_rows: int | None) -> CallError:
    """Return the error of a generation that was not found equal to the one that answers.

    Args:
        name: The projection.
        generation: Which one.
        differing_rows: How many rows differed; None: it was not compared.
    """
    found = (
        "was not compared with the one that answers since it follows the line"
        if differing_rows is None
        else f"differs from the one that answers in {differing_rows:,} rows"
    )
    return CallError(
        ErrorReason.ERROR_REASON_GENERATIONS_DIFFER,
        StatusCode.FAILED_PRECONDITION,
        f"Generation {generation} of {name} {found}, so nothing was switched. Compare them; if the "
        "difference is wanted, such as by a corrected fold, switch and accept the differences.",
        metadata={
            "projection": name,
            "generation": str(generation),
            "differing_rows": str(differing_rows or 0),
        },
    )
