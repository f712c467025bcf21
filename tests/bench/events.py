"""What the benchmark records: contacts, orders, cases and product use of made-up customers."""

import random
import time
from collections.abc import Iterator
from typing import Final

from touchline.events.v1 import facts_pb2 as facts
from touchline.events.v1.decisions_pb2 import (
    CHANNEL_VERDICT_CHOSEN,
    NOTIFICATION_CHANNEL_INBOX,
)
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.identity_pb2 import (
    IDENTITY_KIND_EMAIL,
    IDENTITY_KIND_EXTERNAL_ID,
    IDENTITY_KIND_PHONE,
    Identity,
)
from touchline.uuid7 import uuid7

DESCRIPTION: Final = (
    "two thirds with one identity, a third with two; texts of 100 to 200 characters; "
    "60 % contacts, 20 % product use, 10 % orders, 10 % cases; UUIDv7 ids"
)

_SENTENCE: Final = (
    "the delivery arrived late again and the label printer still refuses to start so please "
    "call me back before noon because our own customers are waiting for their invoices and "
    "nobody could tell us when the missing part will be sent or whether it was sent at all"
)
_WORDS: Final = _SENTENCE.split()
_CHANNELS: Final = (
    *(facts.CHANNEL_PHONE, facts.CHANNEL_EMAIL, facts.CHANNEL_CHAT, facts.CHANNEL_SOCIAL),
    facts.CHANNEL_WEB,
)
YEAR_SECONDS: Final = 365 * 24 * 3600


def crm_identity(customer: int) -> Identity:
    """Return the identity that owns a customer's events."""
    return Identity(
        kind=IDENTITY_KIND_EXTERNAL_ID, namespace="crm", value=f"customer-{customer:07}"
    )


def events(
    count: int, customers: int, seed: int = 1, span_seconds: int = YEAR_SECONDS
) -> Iterator[Event]:
    """Yield events of random customers, the same for the same seed but for ids and the last day."""
    rng = random.Random(seed)
    for _ in range(count):
        yield event_of(rng.randrange(customers), rng, span_seconds)


def event_of(customer: int, rng: random.Random, span_seconds: int = YEAR_SECONDS) -> Event:
    """Return an event of one customer, some time in the last year, or in another span."""
    event = Event(event_id=uuid7(), source="bench")
    event.identities.append(crm_identity(customer))
    share = rng.random()
    if share < 1 / 6:
        email = f"customer{customer}@example.com"
        event.identities.add(kind=IDENTITY_KIND_EMAIL, value=email)
    elif share < 1 / 3:
        event.identities.add(kind=IDENTITY_KIND_PHONE, value=f"+43664{customer:07}")
    event.occurred_at.seconds = int(time.time()) - rng.randrange(span_seconds)
    event.occurred_at.nanos = rng.randrange(1_000_000) * 1000
    _add_fact(event, customer, rng)
    return event


def varied_event_of(customer: int, rng: random.Random, span_seconds: int = YEAR_SECONDS) -> Event:
    """Return an event as `event_of`, but that a tenth tells traits, and a twentieth consents."""
    event = event_of(customer, rng, span_seconds)
    share = rng.random()
    if share < 0.1:
        event.traits_observed.traits["city"] = rng.choice(("Linz", "Graz", "Wien"))
        event.traits_observed.traits["size"] = str(rng.randrange(1000))
    elif share < 0.15:
        event.consent_changed.purpose = "newsletter"
        event.consent_changed.channel = facts.CHANNEL_EMAIL
        event.consent_changed.status = rng.choice(
            (facts.CONSENT_STATUS_GRANTED, facts.CONSENT_STATUS_WITHDRAWN)
        )
    return event


def any_event_of(customer: int, rng: random.Random) -> Event:
    """Return an event as `varied_event_of`, but that a twentieth tells what somebody is told.

    No caller may say that. Every view that can be rebuilt has something of such events.
    """
    event = varied_event_of(customer, rng)
    if rng.random() < 0.05:
        told = event.notification_decided
        told.rule, told.rule_version = "complaint-broken", 1
        told.recipient.reference = f"agent-{rng.randrange(50)}"
        told.title, told.text = _text(rng, 5), _text(rng, 20)
        told.considered.add(channel=NOTIFICATION_CHANNEL_INBOX, verdict=CHANNEL_VERDICT_CHOSEN)
    return event


def _add_fact(event: Event, customer: int, rng: random.Random) -> None:
    share = rng.random()
    if share < 0.6:
        contact = event.interaction
        contact.channel = rng.choice(_CHANNELS)
        contact.direction = rng.choice((facts.DIRECTION_INBOUND, facts.DIRECTION_OUTBOUND))
        contact.title = _text(rng, 4)
        contact.text = _text(rng, rng.randint(20, 38))
        event.conversation_id = f"thread-{customer}-{rng.randrange(5)}"
    elif share < 0.8:
        event.product_used.product = "label printer"
        event.product_used.feature = _text(rng, 3)
        event.product_used.duration_seconds = rng.randrange(3600)
        event.context.device = "Chrome on Windows, " + _text(rng, 10)
    elif share < 0.9:
        order = event.order_changed
        order.order_id = f"order-{rng.randrange(10**9)}"
        order.status = facts.ORDER_STATUS_PLACED
        order.amount.currency_code = "EUR"
        order.amount.micros = rng.randrange(500) * 1_000_000
        order.items.add(sku="LP-200", name=_text(rng, 12), quantity=1)
    else:
        event.case_changed.case_id = f"case-{rng.randrange(10**9)}"
        event.case_changed.status = facts.CASE_STATUS_OPEN
        event.case_changed.subject = _text(rng, 25)


def _text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(_WORDS, k=words))
