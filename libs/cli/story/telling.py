"""What the demo's story and its population are told with: ids, times, identities and events."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import facts_pb2 as facts
from touchline.events.v1 import identity_pb2 as ids
from touchline.ids import uuid8

FIELD_OF_FACT = {
    field.message_type.full_name: field.name
    for field in ev.Event.DESCRIPTOR.oneofs_by_name["fact"].fields
    if field.message_type is not None
}

Fact = (
    facts.Interaction
    | facts.CommunityPosted
    | facts.OrderChanged
    | facts.ProductUsed
    | facts.CaseChanged
    | facts.CampaignTouched
    | facts.ConsentChanged
    | facts.TraitsObserved
    | facts.NoteAdded
    | facts.SignalObserved
    | facts.ExpectationSet
    | facts.ExpectationResolved
    | facts.EventRetracted
    | facts.CheckedIn
    | facts.PaymentAttempted
    | facts.CustomEvent
)


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells events whose ids follow from a seed, at times that follow from a clock.

    Attributes:
        seed: Two tellers with the same seed and clock tell the same events.
        now: The present, with a time zone; nothing is told that has not happened by then.
    """

    seed: str
    now: datetime

    def at(self, days_ago: int, clock: str) -> datetime:
        """Returns a time of day, such as `09:30`, some days ago (negative: ahead)."""
        hour, minute = map(int, clock.split(":"))
        day = self.now - timedelta(days=days_ago)
        return day.replace(hour=hour, minute=minute, second=0, microsecond=0)

    def ago(self, minutes: int) -> datetime:
        """Returns the time some minutes ago."""
        return (self.now - timedelta(minutes=minutes)).replace(microsecond=0)

    def id_of(self, label: str, when: datetime) -> str:
        """Returns the id of the event that is, or was, told under a label at a time."""
        digest = hashlib.sha256(f"{self.seed}/{label}".encode()).digest()
        return uuid8(int(when.timestamp() * 1000), digest)

    def event(
        self,
        label: str,
        when: datetime,
        whom: Sequence[ids.Identity],
        fact: Fact,
        *,
        source: str,
        actor: ev.Actor | None = None,
        conversation: str = "",
        cause: str = "",
        context: ev.Context | None = None,
    ) -> ev.Event:
        """Tells one event.

        Args:
            label: Unique within the seed; the event's id follows from it.
            when: When it happened.
            whom: The identities seen together.
            fact: What happened.
            source: The system that reports it.
            actor: Who acted; left out: the customer.
            conversation: The thread it belongs to.
            cause: The id of the event that caused it.
            context: Where it happened.
        """
        event = ev.Event(
            event_id=self.id_of(label, when),
            identities=whom,
            source=source,
            actor=actor,
            conversation_id=conversation,
            causation_id=cause,
            context=context,
        )
        event.occurred_at.FromDatetime(when)
        getattr(event, FIELD_OF_FACT[fact.DESCRIPTOR.full_name]).CopyFrom(fact)
        return event


def external(namespace: str, value: str) -> ids.Identity:
    """Returns a customer's number in one of the company's systems."""
    kind = ids.IDENTITY_KIND_EXTERNAL_ID
    return ids.Identity(kind=kind, namespace=namespace, value=value)


def email(value: str) -> ids.Identity:
    """Returns an email address."""
    return ids.Identity(kind=ids.IDENTITY_KIND_EMAIL, value=value)


def phone(value: str) -> ids.Identity:
    """Returns a phone number in international form."""
    return ids.Identity(kind=ids.IDENTITY_KIND_PHONE, value=value)


def handle(namespace: str, value: str) -> ids.Identity:
    """Returns a name on a social network or in a community."""
    kind = ids.IDENTITY_KIND_SOCIAL_HANDLE
    return ids.Identity(kind=kind, namespace=namespace, value=value)


def device(value: str) -> ids.Identity:
    """Returns a device."""
    return ids.Identity(kind=ids.IDENTITY_KIND_DEVICE, value=value)


def employee(reference: str) -> ev.Actor:
    """Returns a person who works for the company."""
    return ev.Actor(kind=ev.ACTOR_KIND_EMPLOYEE, reference=reference)


def system(reference: str) -> ev.Actor:
    """Returns a program of the company."""
    return ev.Actor(kind=ev.ACTOR_KIND_SYSTEM, reference=reference)


def euros(amount: int, cents: int = 0) -> facts.Money:
    """Returns an amount in euros."""
    return facts.Money(currency_code="EUR", micros=(amount * 100 + cents) * 10_000)


def promised(expectation_id: str, promise: str, due: datetime) -> facts.ExpectationSet:
    """Returns a promise with its deadline."""
    made = facts.ExpectationSet(expectation_id=expectation_id, promise=promise)
    made.due_at.FromDatetime(due)
    return made


def order(
    order_id: str,
    status: "facts.OrderStatus.ValueType",
    *,
    items: Sequence[facts.OrderItem] = (),
    amount: facts.Money | None = None,
    due: datetime | None = None,
    channel: "facts.Channel.ValueType" = facts.CHANNEL_UNSPECIFIED,
) -> facts.OrderChanged:
    """Returns an order's new state; what is left out stays as it was."""
    changed = facts.OrderChanged(
        order_id=order_id, status=status, items=items, amount=amount, channel=channel
    )
    if due is not None:
        changed.promised_at.FromDatetime(due)
    return changed
