"""Finds what may be an answer: contacts from the company since a customer asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from libs.eventstore.client import StoreClient
from libs.eventstore.records import event_id_bytes
from libs.projection.opening import open_records
from libs.projection.projection import Recorded, of_customers
from libs.projection.timeline import touches_of
from services.notification.domain.answers import Contact, Question
from touchline.events.v1.event_pb2 import (
    EVENT_TYPE_EXPECTATION_SET,
    EVENT_TYPE_INTERACTION,
    Event,
)
from touchline.events.v1.facts_pb2 import DIRECTION_OUTBOUND
from touchline.times import micros_of

NEEDED: Final = ("identity_graph", "timeline")
"""The projections that say what a customer's contacts are."""

# A customer may have asked so long before somebody else's system said that an answer is awaited.
_ASKED_BEFORE_US: Final = 7 * 86_400_000_000
_MAX_CONTACTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """An expectation that an answer may keep, and the contacts that may be one.

    Attributes:
        event: What set it, opened.
        answers: The UUID, 16 bytes, of what is to be answered.
        position: The place on the line of what set it.
        conversation_id: The conversation of what is to be answered, or empty.
        asked_at_us: When the customer asked, in microseconds since 1970.
        contacts: From the company since then, in no order.
    """

    event: Event
    answers: bytes
    position: int
    conversation_id: str
    asked_at_us: int
    contacts: tuple[Contact, ...]

    def question(self, due_at_us: int, since_us: int) -> Question:
        """Return what is to be answered, by when, and not before a renegotiation."""
        return Question(
            self.answers, self.conversation_id, self.asked_at_us, since_us, due_at_us, self.position
        )


def triggers_among(events: Sequence[Recorded]) -> list[Recorded]:
    """Return the events after which there may be an answer that was none before.

    Beside contacts and expectations these are events that name several identities: an answer to
    another identity of the customer is one once they are known to be the same person's.
    """
    return [
        event
        for event in of_customers(events)
        if event.record.type in (EVENT_TYPE_INTERACTION, EVENT_TYPE_EXPECTATION_SET)
        or len(event.record.identities) > 1
    ]


async def asked(
    database: asyncpg.Pool,
    store: StoreClient,
    told: Event,
    at: tuple[int, int],
    keys: Sequence[bytes],
    up_to_position: int,
) -> Asked:
    """Return an expectation with the contacts that may be its answer.

    Args:
        database: Connections to the database of the timeline.
        store: Gives the data keys.
        told: What set the expectation, opened.
        at: Its tenant's number, and its position.
        keys: The identity keys of the customer.
        up_to_position: The last event that counts.

    Raises:
        StoreUnavailable: the data keys can't be got.
    """
    tenant, position = at
    answers = event_id_bytes(told.expectation_set.answers)
    set_at_us = micros_of(told.occurred_at)
    touches = await touches_of(
        database,
        tenant,
        keys,
        since_us=set_at_us - _ASKED_BEFORE_US,
        up_to_position=up_to_position,
        types=(EVENT_TYPE_INTERACTION,),
        limit=_MAX_CONTACTS,
    )
    wanted = [
        touch
        for touch in touches
        if touch.record.direction == DIRECTION_OUTBOUND or touch.record.event_id == answers
    ]
    opened = await open_records(store, [touch.record for touch in wanted], identities=False)
    known = {
        touch.record.event_id: event
        for touch, event in zip(wanted, opened, strict=True)
        if event is not None
    }
    question = known.get(answers)
    conversation_id = told.conversation_id or (question.conversation_id if question else "")
    return Asked(
        told,
        answers,
        position,
        conversation_id,
        micros_of(question.occurred_at) if question else set_at_us,
        _contacts(wanted, known),
    )


def _contacts(touches: Sequence[Recorded], known: Mapping[bytes, Event]) -> tuple[Contact, ...]:
    return tuple(
        Contact(
            event_id=touch.record.event_id,
            position=touch.position,
            occurred_at_us=touch.record.occurred_at_us,
            recorded_at_us=touch.recorded_at_us,
            in_reply_to=_id_or_none(event.interaction.in_reply_to),
            conversation_id=event.conversation_id,
            historical=touch.record.historical,
        )
        for touch in touches
        if touch.record.direction == DIRECTION_OUTBOUND
        and (event := known.get(touch.record.event_id)) is not None
    )


def _id_or_none(text: str) -> bytes:
    return event_id_bytes(text) if text else b""
