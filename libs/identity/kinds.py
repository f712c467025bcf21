"""How strongly each kind of identity names one person (docs/adr/0003)."""

from enum import IntEnum
from typing import Final

from touchline.events.v1.identity_pb2 import (
    IDENTITY_KIND_COOKIE,
    IDENTITY_KIND_DEVICE,
    IDENTITY_KIND_EMAIL,
    IDENTITY_KIND_EXTERNAL_ID,
    IDENTITY_KIND_PHONE,
    IDENTITY_KIND_SOCIAL_HANDLE,
    IDENTITY_KIND_STREAM,
)


class Strength(IntEnum):
    """A class of identities, the strongest first. Lower numbers come first in every order.

    DECIDED is no class of identities: it is the strength of an edge that a person decided.
    """

    DECIDED = 0
    STRONG = 1
    SOCIAL = 2
    DEVICE = 3
    COOKIE = 4


_STRENGTHS: Final[dict[int, Strength]] = {
    IDENTITY_KIND_EXTERNAL_ID: Strength.STRONG,
    IDENTITY_KIND_EMAIL: Strength.STRONG,
    IDENTITY_KIND_PHONE: Strength.STRONG,
    IDENTITY_KIND_SOCIAL_HANDLE: Strength.SOCIAL,
    IDENTITY_KIND_DEVICE: Strength.DEVICE,
    IDENTITY_KIND_COOKIE: Strength.COOKIE,
}

NAMESPACED: Final[frozenset[int]] = frozenset(
    {IDENTITY_KIND_EXTERNAL_ID, IDENTITY_KIND_SOCIAL_HANDLE, IDENTITY_KIND_STREAM}
)
"""The kinds that mean nothing without the system or network that gave them."""


def is_known(kind: int) -> bool:
    """Say whether this release knows the kind; UNSPECIFIED is not one."""
    return kind in _STRENGTHS or kind == IDENTITY_KIND_STREAM


def strength_of(kind: int) -> Strength:
    """Return the class of a kind.

    Args:
        kind: A number of `touchline.events.v1.IdentityKind`.

    Returns:
        Its class; external ids, emails and phone numbers are one class.

    Raises:
        ValueError: The kind is unspecified, newer than this release, or a stream, which names no
            person and so stands outside the order.
    """
    strength = _STRENGTHS.get(kind)
    if kind == IDENTITY_KIND_STREAM:
        raise ValueError("a stream names no customer: it stands alone and belongs to no profile")
    if strength is None:
        raise ValueError(
            f"identity kind {kind} has no strength here: it is unspecified, or newer than this "
            "release; upgrade this service before the one that records it"
        )
    return strength
