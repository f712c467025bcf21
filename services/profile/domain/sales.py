"""A customer as sales sees them: who they talked with, what they bought, what they await."""

from __future__ import annotations

from collections.abc import Sequence

from services.profile.domain.contacts import LIVE, ContactSeen, contacts, show_contact, threads
from services.profile.domain.field_policy import FieldPolicy
from services.profile.domain.orders import SHOWN_ORDERS, order_totals, orders, show_order
from services.profile.domain.promises import SHOWN_PROMISES, promises, show_promise
from services.profile.domain.touches import Seen, of_type, order, timestamp
from touchline.events.v1 import event_pb2, facts_pb2
from touchline.profile.v1 import views_pb2

# What was said stays with those it was said to: a salesperson sees that there was a contact, its
# subject and what the customer wanted, no text. Cases, notes, campaigns and traits are others'.
POLICY = FieldPolicy(
    frozenset(
        {
            "event_id",  # to look it up
            "source",  # an order's number counts within it
            "conversation_id",  # to tell answered from unanswered
            "actor.kind",  # to tell what a deadline decided
            "actor.reference",  # whom to ask
            "interaction.channel",
            "interaction.direction",
            "interaction.visibility",
            "interaction.title",
            "interaction.intent",
            "interaction.in_reply_to",  # to tell answered from unanswered
            "interaction.duration_seconds",  # to tell a talk from an attempt
            "order_changed.order_id",
            "order_changed.status",
            "order_changed.items",
            "order_changed.amount",
            "order_changed.promised_at",
            "signal_observed.kind",
            "signal_observed.text",  # written for those who should know
            "expectation_set.expectation_id",
            "expectation_set.promise",
            "expectation_set.due_at",
            "expectation_resolved.expectation_id",
            "expectation_resolved.outcome",
            "expectation_resolved.due_at",
            "expectation_resolved.reason",  # to be able to explain
        }
    ),
    directions=frozenset({facts_pb2.DIRECTION_INBOUND, facts_pb2.DIRECTION_OUTBOUND}),
)
READS = POLICY.reads
_SHOWN = 5


def fold(history: Sequence[Seen], now_us: int) -> views_pb2.SalesView:
    """Folds what sales may see of a profile.

    Args:
        history: What `see` made of the profile's events by this module's policy.
        now_us: The time at which promises stand so, in microseconds since 1970.
    """
    every = orders(history)
    wanted = [promise for promise in promises(history, every, now_us) if promise.pending]
    signals = of_type(history, event_pb2.EVENT_TYPE_SIGNAL_OBSERVED)
    return views_pb2.SalesView(
        meaningful_contacts=[show_contact(one) for one in meaningful(history)[:_SHOWN]],
        orders=[show_order(one) for one in every[:SHOWN_ORDERS]],
        order_count=len(every),
        order_totals=order_totals(every),
        signals=[_signal(seen) for seen in reversed(signals[-_SHOWN:])],
        promises=[show_promise(promise) for promise in wanted[:SHOWN_PROMISES]],
    )


def meaningful(history: Sequence[Seen]) -> list[ContactSeen]:
    """The contacts that took both sides' time, newest first.

    These are the calls and meetings that lasted, each for itself, and of every thread in which
    both sides spoke the last other contact: a long exchange of mails is one contact, not twenty.
    """
    found = []
    for thread in threads(contacts(history)):
        found += [contact for contact in thread if _lasted(contact)]
        if any(one.inbound for one in thread) and any(one.outbound for one in thread):
            found += [contact for contact in thread if not _lasted(contact)][-1:]
    return sorted(found, key=lambda contact: order(contact.seen), reverse=True)


def _lasted(contact: ContactSeen) -> bool:
    return contact.channel in LIVE and contact.seen.event.interaction.duration_seconds > 0


def _signal(seen: Seen) -> views_pb2.Signal:
    signal = seen.event.signal_observed
    return views_pb2.Signal(
        event_id=seen.event.event_id,
        occurred_at=timestamp(seen.at_us),
        kind=signal.kind,
        text=signal.text,
    )
