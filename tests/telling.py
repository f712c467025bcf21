"""Decisions to tell somebody something, made without a rule, and what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from google.protobuf.timestamp_pb2 import Timestamp

from libs.eventstore.client import StoreClient
from tests.peers import MailServer, Receiver
from touchline.client import Client
from touchline.events.v1.decisions_pb2 import (
    CHANNEL_VERDICT_CHOSEN,
    NOTIFICATION_CHANNEL_INBOX,
    ConsideredChannel,
    DeliveryAttempted,
    NamedValue,
    NotificationChannel,
    NotificationDecided,
    NotificationRecipient,
)
from touchline.events.v1.event_pb2 import ACTOR_KIND_SYSTEM, Actor, Event
from touchline.events.v1.facts_pb2 import ConsentChanged, ConsentStatus, NoteAdded, ProductUsed
from touchline.events.v1.identity_pb2 import Identity
from touchline.notification.v1 import notification_service_pb2 as api
from touchline.notification.v1.notification_pb2 import (
    DELIVERY_STATE_CLAIMED,
    DELIVERY_STATE_WAITING,
    Delivery,
    NotificationExplanation,
    Recipient,
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
    """Puts decisions onto the line as the outbox does, and follows what becomes of them.

    Attributes:
        store: Takes the decisions.
        client: Asks the notification service.
        mails: The mail server it uses.
        hooks: Receives its webhooks.
        listen: The host:port of the notification service.
        url: Its database.
    """

    store: StoreClient
    client: Client
    mails: MailServer
    hooks: Receiver
    listen: str
    url: str
    last_position: int = field(init=False, default=0)

    async def tell(
        self, identity: Identity, decided: NotificationDecided, name: str = "", cause_id: str = ""
    ) -> str:
        """Records a decision about a customer, and its cause; returns the notification's id."""
        name = name or str(uuid4())
        if not cause_id:
            cause_id = str(uuid4())
            cause = Event(note_added=NoteAdded(text="Seen in Paris."))
            await self.append(identity, cause, cause_id)
        event = Event(causation_id=cause_id, notification_decided=decided)
        await self.append(identity, event, name)
        return name

    async def append(self, identity: Identity, event: Event, name: str) -> None:
        """Records an event as the notification service does."""
        event.event_id, event.source = name, "notification"
        event.identities.append(identity)
        event.occurred_at.CopyFrom(now())
        event.actor.CopyFrom(Actor(kind=ACTOR_KIND_SYSTEM))
        unit = AppendUnit(events=[AppendEvent(event=event)])
        answer = await self.store.append(AppendRequest(tenant="default", units=[unit]))
        (verdict,) = answer.verdicts
        assert verdict.outcome == APPEND_OUTCOME_RECORDED, verdict
        self.last_position = verdict.position

    async def put(self, reference: str, email: str = "", webhook_url: str = "") -> str:
        """Says where a recipient is reached; returns the secret of its webhooks."""
        recipient = Recipient(reference=reference, email=email, webhook_url=webhook_url)
        answer = await self.client.notification.PutRecipient(
            api.PutRecipientRequest(recipient=recipient)
        )
        return answer.webhook_secret

    async def explained(self, notification_id: str) -> NotificationExplanation:
        """What became of a notification, as the line tells it."""
        answer = await self.client.notification.ExplainNotification(
            api.ExplainNotificationRequest(notification_id=notification_id)
        )
        (found,) = [one for one in answer.notifications if one.notification_id == notification_id]
        return found

    async def attempts(self, notification_id: str, count: int) -> list[DeliveryAttempted]:
        """The attempts that are on the line, once there are so many."""
        async with asyncio.timeout(30):
            while True:
                found = list((await self.explained(notification_id)).attempts)
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.02)

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
        self, notification_id: str, holds: Callable[[Delivery], bool], within: float = 30.0
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


def consent(identity: Identity, status: ConsentStatus.ValueType, purpose: str = "alerts") -> Event:
    """A customer allows or forbids something, now."""
    event = Event(
        event_id=str(uuid4()),
        identities=[identity],
        source="shop",
        consent_changed=ConsentChanged(purpose=purpose, status=status),
    )
    event.occurred_at.CopyFrom(now())
    return event


def used(*identities: Identity) -> Event:
    """A customer used the product, which shows that the identities are theirs."""
    fact = ProductUsed(product="app")
    event = Event(event_id=str(uuid4()), identities=identities, source="app", product_used=fact)
    event.occurred_at.CopyFrom(now())
    return event


async def read(teller: Teller, *names: str, reader: str = "") -> int:
    """Marks notifications as read, once they are there; returns the position that says so."""
    checkpoint = api.ListDeliveriesRequest(after_position=teller.last_position)
    await teller.client.notification.ListDeliveries(checkpoint)
    inbox = api.ListInboxRequest(
        inbox=api.Inbox(reference="whoever"), after_position=teller.last_position
    )
    await teller.client.notification.ListInbox(inbox)
    answer = await teller.client.notification.MarkRead(
        api.MarkReadRequest(notification_ids=names, reader=reader)
    )
    return answer.position
