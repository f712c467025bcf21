"""What callers ask of decisions about who is who: checked, and told in the customer's own fact."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from google.protobuf.message import Message

from libs.identity.keys import KEY_BYTES, IdentityKeys
from libs.identity.normalise import IdentityError
from libs.rpc import errors
from services.profile.identities.aggregates import content_hash
from touchline.events.v1.decisions_pb2 import IdentityDecided, IdentityDecision
from touchline.events.v1.event_pb2 import ACTOR_KIND_EMPLOYEE, Actor, Event
from touchline.events.v1.identity_pb2 import IDENTITY_KIND_STREAM, Identity
from touchline.ids import decision_id
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.times import timestamp_of

SOURCE: Final = "touchline"
"""The source of the events that say what was decided."""

_MAX_REFERENCE: Final = 128
_MAX_REASON: Final = 4096
_REFERENCE: Final = re.compile(r"[^\s@\x00-\x1f\x7f]{1,128}")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# They say nothing of what is decided.
_BESIDE: Final = ("decision_id", "after_position")

Violations = list[tuple[str, str]]
Deciding = (
    api.MergeProfilesRequest
    | api.UnmergeProfilesRequest
    | api.DetachIdentityRequest
    | api.AcceptMergeSuggestionRequest
    | api.RejectMergeSuggestionRequest
)
"""The requests that decide."""


@dataclass(frozen=True, slots=True)
class Named:
    """A profile that a decision is about, as its caller names it.

    Attributes:
        key: The identity key that it comes to.
        path: Its field in the request.
        by_id: Whether it was named by a profile id, which must then be the profile's present one.
        expected_version: The version that the decider saw; None for whichever it is.
    """

    key: bytes
    path: str
    by_id: bool = False
    expected_version: int | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """Who decides, why, and how the decision is named.

    Attributes:
        decided_by: Who, as a reference.
        reason: Why.
        event_id: The decision's, as the caller names it; empty when its content does.
        asked: The keyed hash of all that was asked.
    """

    decided_by: str
    reason: str
    event_id: str
    asked: str


class Checking:
    """Reads the fields of one request, and collects what is wrong with them.

    Args:
        keys: The tenant's, which name identities.
    """

    def __init__(self, keys: IdentityKeys) -> None:
        self._keys = keys
        self._wrong: Violations = []

    def wrong(self, path: str, told: str) -> None:
        """Note that a field is wrong."""
        self._wrong.append((path, told))

    def done(self) -> None:
        """Refuse the request if anything is wrong.

        Raises:
            CallError: INVALID_REQUEST, with all that is.
        """
        if self._wrong:
            raise errors.invalid_request(self._wrong)

    def named(self, decided: api.DecidedProfile, path: str) -> Named:
        """Return a profile that is decided about."""
        version = decided.expected_version
        if version < 0:
            self.wrong(f"{path}.expected_version", "must be 0 or a version")
        expected = version if version or decided.expects_version else None
        by_id = decided.profile.HasField("profile_id")
        key = self.reference(decided.profile, f"{path}.profile")
        return Named(key, path, by_id, expected)

    def reference(self, reference: ProfileReference, path: str) -> bytes:
        """Return the identity key that a reference comes to; empty when it is wrong."""
        match reference.WhichOneof("reference"):
            case "profile_id":
                return self.profile_id(reference.profile_id, f"{path}.profile_id")
            case "identity":
                return self.identity(reference.identity, f"{path}.identity")
        self.wrong(path, "is missing; give a profile_id or an identity")
        return b""

    def profile_id(self, text: str, path: str) -> bytes:
        """Return the key of a profile id; empty when it is none."""
        try:
            key = bytes.fromhex(text)
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            self.wrong(path, "is no profile id: it has 32 hexadecimal digits")
        return key

    def identity(self, identity: Identity, path: str) -> bytes:
        """Return the key of an identity; empty when it is none of a customer."""
        if identity.kind == IDENTITY_KIND_STREAM:
            self.wrong(f"{path}.kind", "names no customer")
            return b""
        try:
            return self._keys.identify(identity).key
        except IdentityError as error:
            self.wrong(f"{path}.{error.field}", error.description)
            return b""

    def event_id(self, text: str, path: str) -> str:
        """Return an event id in its one spelling; empty when it is none."""
        if _UUID.fullmatch(text):
            return str(UUID(text))
        self.wrong(path, "is not a UUID")
        return ""

    def wish(self, request: Deciding) -> Wish:
        """Return who decides, why, and how the decision is named."""
        if not _REFERENCE.fullmatch(request.decided_by):
            told = f"must be 1 to {_MAX_REFERENCE} characters without blanks and @: no address"
            self.wrong("decided_by", told)
        if not 1 <= len(request.reason) <= _MAX_REASON:
            self.wrong("reason", f"must have 1 to {_MAX_REASON:,} characters")
        given = request.decision_id
        event_id = self.event_id(given, "decision_id") if given else ""
        asked = content_hash(self._keys, _content(request))
        return Wish(request.decided_by, request.reason, event_id, asked)


def fact_of(
    wish: Wish, decision: IdentityDecision, identity: Identity, versions: Sequence[int]
) -> Event:
    """Return the customer's fact that somebody decided who they are, now.

    Args:
        wish: Who decides, and why.
        decision: What every service folds.
        identity: Of the profile that was named first: the fact's owner.
        versions: Of the profiles that it concerns, before.
    """
    now_us = time.time_ns() // 1000
    told = ",".join(map(str, versions))
    return Event(
        event_id=wish.event_id or decision_id(now_us, "identity", wish.asked, told),
        identities=[identity],
        occurred_at=timestamp_of(now_us),
        source=SOURCE,
        actor=Actor(kind=ACTOR_KIND_EMPLOYEE, reference=wish.decided_by),
        identity_decided=IdentityDecided(decision=decision, reason=wish.reason),
    )


def _content(request: Message) -> bytes:
    same = type(request)()
    same.CopyFrom(request)
    for field in _BESIDE:
        same.ClearField(field)
    name = request.DESCRIPTOR.full_name
    return name.encode() + b"\0" + same.SerializeToString(deterministic=True)
