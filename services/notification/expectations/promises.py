"""The aggregates `promises`: what employees promised, one change after the other, on the line.

An aggregate is sealed under its stream's key, which erasing the customer does not delete. So it
keeps nothing of the customer: when it is due, what became of it, and keyed hashes of what was
asked. What was promised, and to whom, stands in the customer's own facts, recorded with it.
"""

from dataclasses import dataclass
from datetime import UTC
from typing import Final, cast
from uuid import UUID

from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import IntegrityError

from libs.eventstore.aggregates import give_topics
from libs.eventstore.aggregates.stored import owner_of
from libs.identity.keys import IdentityKeys
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.facts_pb2 import (
    EXPECTATION_OUTCOME_RENEGOTIATED,
    EXPECTATION_OUTCOME_UNSPECIFIED,
    ExpectationOutcome,
)
from touchline.store.v1.store_pb2 import AppendEvent

APPLICATION: Final = "promises"
"""The namespace of the promises' streams."""

# No identity has this kind, so no identity's key can equal one of these.
_HASHED_KIND: Final = 0
_ATTEMPTS: Final = 3


class PromiseNotFound(Exception):
    """No promise has this id."""


class PromiseEnded(Exception):
    """The promise was kept or withdrawn already."""


class PromiseExists(Exception):
    """Another promise has this id."""


class StaleVersion(Exception):
    """The promise was changed meanwhile.

    Attributes:
        version: The latest one.
    """

    def __init__(self, version: int) -> None:
        super().__init__(f"the latest version is {version}")
        self.version = version


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become of a promise.

    Attributes:
        outcome: Kept, renegotiated or withdrawn.
        due_at_us: The new time when it is renegotiated, in microseconds since 1970; else 0.
        expected_version: The latest version that the caller knows; 0 for whichever it is.
        asked: The keyed hash of all that the caller asks.
    """

    outcome: ExpectationOutcome.ValueType
    due_at_us: int
    expected_version: int
    asked: str


@dataclass(frozen=True, slots=True)
class Saved:
    """How a promise stands on the line.

    Attributes:
        version: Its version.
        position: From which on every service knows of it.
    """

    version: int
    position: int


class Promise(Aggregate):
    """A promise.

    Args:
        name: Its id, in hexadecimal digits.
        due_at_us: Until when, in microseconds since 1970.
        asked: The keyed hash of what was promised, to whom, by whom and until when.
    """

    @event("Given")
    def __init__(self, name: str, due_at_us: int, asked: str) -> None:
        self.name = name
        self.due_at_us = due_at_us
        self.given_as = self.asked = asked
        self.outcome = int(EXPECTATION_OUTCOME_UNSPECIFIED)

    @event("Renegotiated")
    def renegotiate(self, due_at_us: int, asked: str) -> None:
        """Move the time."""
        self.due_at_us = due_at_us
        self.asked = asked

    @event("Ended")
    def end(self, outcome: int, asked: str) -> None:
        """Say that it was kept or withdrawn."""
        self.outcome = outcome
        self.asked = asked

    @staticmethod
    def create_id(name: str) -> UUID:
        """Return the id of the promise of that name."""
        return UUID(name)

    @property
    def ended(self) -> bool:
        """Whether it was kept or withdrawn."""
        return self.outcome != EXPECTATION_OUTCOME_UNSPECIFIED


give_topics(Promise, "notification.Promise")


class Promises(Application[UUID]):
    """A tenant's promises. It is synchronous: call it from a thread."""

    name = APPLICATION

    def give(self, promise_id: UUID, due_at_us: int, asked: str, fact: Event) -> Saved:
        """Give a promise; once more with the same content, the first stands.

        Args:
            promise_id: See `promise_id`.
            due_at_us: Until when, in microseconds since 1970.
            asked: The keyed hash of its content.
            fact: The customer's ExpectationSet, recorded with it or not at all.

        Raises:
            PromiseExists: it has another content.
            PersistenceError: the store does not take it, or can't be reached.
        """
        found = self.find(promise_id)
        if found is None:
            try:
                return self._save(Promise(promise_id.hex, due_at_us, asked), fact)
            except IntegrityError:
                found = self.find(promise_id)  # another gave it meanwhile
        if found is None or found.given_as != asked:
            raise PromiseExists
        return self._as_it_stands(found)

    def resolve(self, promise_id: UUID, change: Change, fact: Event, known_at: int) -> Saved:
        """End or renegotiate a promise; the last change once more changes nothing.

        Args:
            promise_id: See `promise_id`.
            change: What becomes of it.
            fact: The customer's ExpectationResolved, recorded with it or not at all.
            known_at: How far it was known who was erased when the promise was opened.

        Raises:
            DataError: the customer was erased since then.
            PromiseNotFound: there is none.
            PromiseEnded: it was kept or withdrawn already.
            StaleVersion: it is not at the version that the caller expects.
            PersistenceError: the store does not take it, or can't be reached.
        """
        for attempt in range(_ATTEMPTS):
            promise = self.find(promise_id)
            if promise is None:
                raise PromiseNotFound
            if promise.asked == change.asked:
                return self._as_it_stands(promise)
            _apply(promise, change)
            try:
                return self._save(promise, fact, max(1, known_at))
            except IntegrityError:
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def find(self, promise_id: UUID) -> Promise | None:
        """Return a promise; None when there is none."""
        try:
            return cast("Promise", self.repository.get(promise_id))
        except AggregateNotFoundError:
            return None

    def _save(self, promise: Promise, fact: Event, known_at: int = 0) -> Saved:
        at = fact.occurred_at.ToDatetime(tzinfo=UTC)
        told = AppendEvent(event=fact, decided_at_position=known_at)
        (recording,) = self.save(promise, occurred_at=at, facts=[told])
        return Saved(promise.version, recording.notification.id + 1)  # the fact follows the change

    def _as_it_stands(self, promise: Promise) -> Saved:
        # The last change of any promise is no earlier than that of this one.
        return Saved(promise.version, (self.recorder.max_notification_id() or 0) + 1)


def promise_id(keys: IdentityKeys, expectation_id: str) -> UUID:
    """Return the id of the aggregate of an expectation: it says nothing of what callers say."""
    return UUID(bytes=keys.key(_HASHED_KIND, "expectation", expectation_id))


def expectation_key(keys: IdentityKeys, expectation_id: str) -> bytes:
    """Return the keyed hash of an expectation's id: the key of its promise's stream, 16 bytes."""
    return owner_of(keys, APPLICATION, promise_id(keys, expectation_id)).key


def content_hash(keys: IdentityKeys, content: bytes) -> str:
    """Return the keyed hash, in hexadecimal digits, of what a caller asks."""
    return keys.key(_HASHED_KIND, "promise", content.hex()).hex()


def _apply(promise: Promise, change: Change) -> None:
    if change.expected_version not in (0, promise.version):
        raise StaleVersion(promise.version)
    if promise.ended:
        raise PromiseEnded
    if change.outcome == EXPECTATION_OUTCOME_RENEGOTIATED:
        promise.renegotiate(change.due_at_us, change.asked)
    else:
        promise.end(int(change.outcome), change.asked)
