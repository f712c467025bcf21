"""The decision that a notification was read: the first one stands, on whichever channel it was."""

import time
from collections.abc import Iterable

from services.notification.deliveries.claims import SOURCE
from services.notification.deliveries.messages import identities_of
from touchline.events.v1.decisions_pb2 import NotificationRead
from touchline.events.v1.event_pb2 import ACTOR_KIND_CUSTOMER, ACTOR_KIND_EMPLOYEE, Actor, Event
from touchline.ids import decision_id
from touchline.times import timestamp_of


def read_events(notifications: Iterable[tuple[int, Event]], who: str) -> list[Event]:
    """Return the events that record that notifications were read, now.

    Args:
        notifications: Each with the time at which the store accepted it, in microseconds since
            1970.
        who: Who read them, as a reference; empty: their recipients.
    """
    now = timestamp_of(time.time_ns() // 1000)
    return [
        Event(
            # Reading it again gives the same id, and the first reading stands.
            event_id=decision_id(recorded_at_us, event.event_id, "notification_read"),
            identities=identities_of(event),
            occurred_at=now,
            source=SOURCE,
            actor=_actor(event, who),
            causation_id=event.event_id,
            notification_read=NotificationRead(notification_id=event.event_id, reader=who),
        )
        for recorded_at_us, event in notifications
    ]


def _actor(event: Event, who: str) -> Actor:
    recipient = event.notification_decided.recipient
    if recipient.customer and not who:
        return Actor(kind=ACTOR_KIND_CUSTOMER)
    return Actor(kind=ACTOR_KIND_EMPLOYEE, reference=who or recipient.reference)
