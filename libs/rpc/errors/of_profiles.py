"""Errors about who is who."""

from grpc import StatusCode

from libs.rpc.errors.call_error import CallError
from touchline.errors.v1.error_reason_pb2 import ErrorReason


def profile_not_found() -> CallError:
    """Return the error of a reference that leads to no profile."""
    return CallError(
        ErrorReason.ERROR_REASON_PROFILE_NOT_FOUND,
        StatusCode.NOT_FOUND,
        "No profile has this id or identity. Check it, and if its first event was just recorded, "
        "send that event's position as after_position.",
    )


def profile_merged_away(profile_id: str, into_profile_id: str) -> CallError:
    """Return the error of a decision that names a profile which another absorbed."""
    return CallError(
        ErrorReason.ERROR_REASON_PROFILE_MERGED_AWAY,
        StatusCode.FAILED_PRECONDITION,
        f"The profile {profile_id} was absorbed by {into_profile_id}; nothing was changed. Look at "
        "that one, and decide about it, or name an identity.",
        metadata={"profile_id": profile_id, "into_profile_id": into_profile_id},
    )


def same_profile(profile_id: str) -> CallError:
    """Return the error of a decision about two profiles that are one."""
    return CallError(
        ErrorReason.ERROR_REASON_SAME_PROFILE,
        StatusCode.FAILED_PRECONDITION,
        f"Both sides are the profile {profile_id} already; nothing was changed. "
        "ExplainIdentities says why.",
        metadata={"profile_id": profile_id},
    )


def not_merged(profile_id: str) -> CallError:
    """Return the error of taking apart what is not together."""
    return CallError(
        ErrorReason.ERROR_REASON_NOT_MERGED,
        StatusCode.FAILED_PRECONDITION,
        f"Nothing that holds made this one of the profile {profile_id}, so there is nothing to "
        "take back; nothing was changed. ExplainIdentities lists its links and the merges.",
        metadata={"profile_id": profile_id},
    )


def identity_not_detachable(profile_id: str) -> CallError:
    """Return the error of detaching what is not, or is all there is, of the profile."""
    return CallError(
        ErrorReason.ERROR_REASON_IDENTITY_NOT_DETACHABLE,
        StatusCode.FAILED_PRECONDITION,
        f"The identity is not, or is all there is, of the profile {profile_id}; nothing was "
        "changed. GetProfile lists the identities that it has.",
        metadata={"profile_id": profile_id},
    )


def suggestion_not_found() -> CallError:
    """Return the error of a suggestion that is not open."""
    return CallError(
        ErrorReason.ERROR_REASON_SUGGESTION_NOT_FOUND,
        StatusCode.NOT_FOUND,
        "No such suggestion is open: it was accepted or rejected, or the profiles changed. "
        "ListMergeSuggestions has those that are.",
    )


def profile_erased(position: int) -> CallError:
    """Return the error of a profile whose identities were all erased.

    Args:
        position: Of the erasure on the line.
    """
    return CallError(
        ErrorReason.ERROR_REASON_PROFILE_ERASED,
        StatusCode.FAILED_PRECONDITION,
        f"The profile was erased at position {position}. What is left of it says nothing of a "
        "person, so there is nothing to decide, to erase or to export.",
        metadata={"position": str(position)},
    )


def profile_too_large(identities: int, most: int) -> CallError:
    """Return the error of a decision about more identities than one can name."""
    return CallError(
        ErrorReason.ERROR_REASON_PROFILE_TOO_LARGE,
        StatusCode.FAILED_PRECONDITION,
        f"The profiles have {identities:,} identities, and a decision names at most {most:,}; "
        "nothing was changed. Detach what belongs to others, such as a shared device, first.",
        metadata={"identities": str(identities), "most": str(most)},
    )
