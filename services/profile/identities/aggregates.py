"""The aggregates `profiles`: how often people decided about who each profile is.

What was decided stands in the customer's own facts, recorded with the change in one unit. An
aggregate's stream is sealed under a key of its own, which erasing the customer does not delete, so
it keeps nothing of the customer: event ids, and keyed hashes of what was asked.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast
from uuid import UUID

from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate, event

from libs.eventstore.aggregates import give_topics
from libs.identity.keys import IdentityKeys
from touchline.events.v1.event_pb2 import Event
from touchline.store.v1.store_pb2 import AppendEvent

APPLICATION: Final = "profiles"
"""The namespace of the profiles' streams."""

_KEPT: Final = "1000"
# No identity has this kind, so no identity's key can equal one of these.
_HASHED_KIND: Final = 0


class Profile(Aggregate):
    """A profile's decisions; its version is the profile's.

    Args:
        root: The profile's id: the key of its first identity, in hexadecimal digits.
        event_id: The first decision's event.
        asked: The keyed hash of what was asked.
    """

    @event("FirstDecided")
    def __init__(self, root: str, event_id: str, asked: str) -> None:
        self.root = root
        self.asked_as = {event_id: asked}
        self.last = event_id

    class Decided(Aggregate.Event):
        """Somebody decided about it once more."""

        event_id: str
        asked: str

    @event(Decided)
    def decide(self, event_id: str, asked: str) -> None:
        """Take in another decision."""
        self.asked_as[event_id] = asked
        self.last = event_id

    @staticmethod
    def create_id(root: str) -> UUID:
        """Return the id of the aggregate of a profile."""
        return UUID(root)


give_topics(Profile, "profile.Profile")


class ProfileDecisions(Application[UUID]):
    """A tenant's profiles as people decided about them. It is synchronous: call it from a thread.

    Args:
        env: From libs.eventstore.aggregates.lend.
    """

    name = APPLICATION

    def __init__(self, env: Mapping[str, str]) -> None:
        # So that of a profile that was decided about before only what is new is read.
        super().__init__(env={**env, "AGGREGATE_CACHE_MAXSIZE": _KEPT})

    def find(self, roots: Sequence[bytes]) -> dict[bytes, Profile]:
        """Return the aggregates of those of some profiles that people decided about, by root.

        Raises:
            PersistenceError: the store can't be reached.
        """
        found = {}
        for root in roots:
            try:
                found[root] = cast("Profile", self.repository.get(UUID(bytes=root)))
            except AggregateNotFoundError:
                continue
        return found

    def record(
        self, versions: Mapping[bytes, int], asked: str, fact: Event, decided_at: int
    ) -> int:
        """Record a decision and a change of each profile that it concerns, all or nothing.

        The profiles are not read: the store refuses a version that is taken.

        Args:
            versions: By the profiles' roots, the versions that it was decided on; 0: never decided.
            asked: The keyed hash of what was asked.
            fact: The IdentityDecided.
            decided_at: The position up to which the line was known when it was decided.

        Returns:
            The position of the decision.

        Raises:
            IntegrityError: one of them has another version by now; nothing was recorded.
            DataError: somebody whom the fact names was erased meanwhile.
            PersistenceError: the store does not take it, or can't be reached.
        """
        at = fact.occurred_at.ToDatetime(tzinfo=UTC)
        changes = [
            _change(root, version, fact.event_id, asked, at) for root, version in versions.items()
        ]
        told = AppendEvent(event=fact, decided_at_position=decided_at)
        *_, last = self.save(*changes, occurred_at=at, facts=[told])
        return last.notification.id + 1  # the fact follows the changes


def content_hash(keys: IdentityKeys, content: bytes) -> str:
    """Return the keyed hash, in hexadecimal digits, of what a caller asks."""
    return keys.key(_HASHED_KIND, "identity-decision", content.hex()).hex()


def _change(
    root: bytes, version: int, event_id: str, asked: str, at: datetime
) -> Profile | Aggregate.Event:
    if not version:
        return Profile(root.hex(), event_id, asked)
    # As the library makes it of an aggregate that was read.
    change: dict[str, Any] = {
        "originator_id": UUID(bytes=root),
        "originator_version": version + 1,
        "timestamp": at,
        "event_id": event_id,
        "asked": asked,
    }
    return Profile.Decided(**change)
