"""Decisions to tell somebody something, made without a rule, and what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from google.protobuf.timestamp_pb2 import Timestamp

from libs.eventstore.client import StoreClient
from touchline.client import Client
from touchline.events.v1.decisions_pb2 import (
    CHANNEL_VERDICT_CHOSEN,
    NOTIFICATION_CHANNEL_INBOX,
    ConsideredChannel,
    NamedValue,
    NotificationChannel,
    NotificationDecided,
    NotificationRecipient,
)
from touchline.events.v1.event_pb2 import ACTOR_KIND_SYSTEM, Actor, Event
from touchline.events.v1.identity_pb2 import Identity
from touchline.notification.v1 import notification_service_pb2 as api
from touchline.notification.v1.notification_pb2 import (
    DELIVERY_STATE_CLAIMED,
    DELIVERY_STATE_WAITING,
    Delivery,
)
from touchline.store.v1.store_pb2 import (
    APPEND_OUTCOME_RECORDED,
    AppendEvent,
    AppendRequest,
    AppendUnit,
)

OPEN = (DELIVERY_STATE_WAITING, DELIVERY_STATE_CLAIMED)


def now() -> Timestamp:
    """The time."""
    told = Timestamp()
    told.GetCurrentTime()
    return told


def chosen(*channels: NotificationChannel.ValueType) -> list[ConsideredChannel]:
    """Channels that are used at once."""
    return [
        ConsideredChannel(channel=channel, verdict=CHANNEL_VERDICT_CHOSEN) for channel in channels
    ]


def told(
    reference: str,
    channels: Sequence[ConsideredChannel] = (),
    *,
    purpose: str = "",
    title: str = "Impossible travel",
) -> NotificationDecided:
    """A notification to an employee or a team; to the customer with an empty reference."""
    return NotificationDecided(
        rule="impossible-travel",
        rule_version=1,
        recipient=NotificationRecipient(customer=not reference, reference=reference),
        title=title,
        text="A check-in in New York and a payment in Paris.",
        reason="5,837 km in 40 minutes",
        purpose=purpose,
        considered=channels or chosen(NOTIFICATION_CHANNEL_INBOX),
        values=[NamedValue(name="speed", value="8,755 km/h")],
        rules=["impossible-travel"],
    )


@dataclass(slots=True)
class Teller:
    """Puts decisions onto the line as the outbox does, and follows their deliveries.

    Attributes:
        store: Takes the decisions.
        client: Asks the notification service.
    """

    store: StoreClient
    client: Client
    last_position: int = field(init=False, default=0)

    async def tell(
        self, identity: Identity, decided: NotificationDecided, cause_id: str = ""
    ) -> str:
        """Records a decision about a customer; returns the notification's id."""
        event = Event(
            event_id=str(uuid4()),
            identities=[identity],
            occurred_at=now(),
            source="notification",
            actor=Actor(kind=ACTOR_KIND_SYSTEM),
            causation_id=cause_id or str(uuid4()),
            notification_decided=decided,
        )
        unit = AppendUnit(events=[AppendEvent(event=event)])
        answer = await self.store.append(AppendRequest(tenant="default", units=[unit]))
        (verdict,) = answer.verdicts
        assert verdict.outcome == APPEND_OUTCOME_RECORDED, verdict
        self.last_position = verdict.position
        return event.event_id

    async def deliveries(self, notification_id: str) -> list[Delivery]:
        """The deliveries of a notification, in the order of their channels."""
        answer = await self.client.notification.ListDeliveries(
            api.ListDeliveriesRequest(page_size=500, after_position=self.last_position)
        )
        found = [one for one in answer.deliveries if one.notification_id == notification_id]
        return sorted(found, key=lambda one: one.channel)

    async def ended(self, notification_id: str) -> Delivery:
        """The only delivery of a notification, once it has ended."""
        return await self.until(notification_id, lambda one: one.state not in OPEN)

    async def until(
        self, notification_id: str, holds: Callable[[Delivery], bool], within: float = 10.0
    ) -> Delivery:
        """The only delivery of a notification, once something holds of it."""

        async def look() -> Delivery | None:
            (one,) = await self.deliveries(notification_id)
            return one if holds(one) else None

        return await soon(look, within)


async def soon(look: Callable[[], Awaitable[Delivery | None]], within: float) -> Delivery:
    """What a look returns once it is something."""
    async with asyncio.timeout(within):
        while (found := await look()) is None:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.02)
        return found
