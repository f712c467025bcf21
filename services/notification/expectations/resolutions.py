"""What this service decides of expectations: that an answer kept one, or a deadline broke it."""

from typing import Final

from libs.eventstore.records import event_id_text
from libs.expectations import DECIDED_BY
from services.notification.deliveries.messages import identities_of
from services.notification.domain.answers import Contact
from touchline.events.v1.event_pb2 import ACTOR_KIND_SYSTEM, Actor, Event
from touchline.events.v1.facts_pb2 import (
    EXPECTATION_OUTCOME_BROKEN,
    EXPECTATION_OUTCOME_KEPT,
    ExpectationOutcome,
    ExpectationResolved,
)
from touchline.ids import decision_id
from touchline.times import timestamp_of

SOURCE: Final = DECIDED_BY


def kept(told: Event, key: bytes, due_at_us: int, answer: Contact) -> Event:
    """Return the decision that an answer kept an expectation.

    It belongs to whom the expectation belongs, whichever identity the answer went to: they are
    erased together.

    Args:
        told: What set the expectation, opened.
        key: The keyed hash of its id.
        due_at_us: The deadline that was met, in microseconds since 1970.
        answer: The cause.
    """
    event_id = decision_id(
        answer.recorded_at_us, answer.event_id, "expectation kept", key, str(due_at_us)
    )
    return _resolved(
        told,
        event_id,
        answer.occurred_at_us,
        EXPECTATION_OUTCOME_KEPT,
        "answered in time",
        causation_id=event_id_text(answer.event_id),
        historical=answer.historical,
    )


def broken(told: Event, key: bytes, due_at_us: int, recorded_at_us: int) -> Event:
    """Return the decision that a deadline passed and an expectation is broken.

    Args:
        told: What set the expectation, opened.
        key: The keyed hash of its id.
        due_at_us: The deadline, in microseconds since 1970.
        recorded_at_us: When the store accepted what set that deadline.
    """
    event_id = decision_id(recorded_at_us, "expectation broken", key, str(due_at_us))
    return _resolved(
        told,
        event_id,
        due_at_us,
        EXPECTATION_OUTCOME_BROKEN,
        "the deadline passed",
        causation_id=told.event_id,
    )


def _resolved(
    told: Event,
    event_id: str,
    occurred_at_us: int,
    outcome: ExpectationOutcome.ValueType,
    reason: str,
    *,
    causation_id: str,
    historical: bool = False,
) -> Event:
    awaited = told.expectation_set
    return Event(
        event_id=event_id,
        identities=identities_of(told),
        occurred_at=timestamp_of(occurred_at_us),
        source=SOURCE,
        actor=Actor(kind=ACTOR_KIND_SYSTEM, reference=SOURCE),
        conversation_id=told.conversation_id,
        causation_id=causation_id,
        correlation_id=told.correlation_id,
        historical=historical,
        expectation_resolved=ExpectationResolved(
            expectation_id=awaited.expectation_id,
            outcome=outcome,
            reason=reason,
            promise=awaited.promise,
            team=awaited.team,
            rules=awaited.rules,
        ),
    )
