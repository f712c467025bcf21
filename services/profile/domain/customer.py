"""A customer's own view: what is known of them, said with them, promised to them."""

from __future__ import annotations

from collections.abc import Sequence

from services.profile.domain.attributes import known
from services.profile.domain.contacts import contacts, show_contact
from services.profile.domain.field_policy import FieldPolicy
from services.profile.domain.orders import SHOWN_ORDERS, orders, show_order
from services.profile.domain.promises import promises, show_promise
from services.profile.domain.touches import Seen, timestamp
from touchline.events.v1 import facts_pb2
from touchline.profile.v1 import views_pb2

# Customers may see what they said and were told, bought, allowed and were promised, and all that
# is known of them. Not: notes, signals, cases, talk within the company, which employee it was,
# others who took part, and the reasons colleagues give one another for how a promise ended.
POLICY = FieldPolicy(
    frozenset(
        {
            "event_id",  # to ask about it
            "source",  # an order's number counts within it
            "actor.kind",  # to tell the company's posts from the customer's
            "interaction.channel",
            "interaction.direction",
            "interaction.visibility",
            "interaction.title",
            "interaction.text",
            "interaction.intent",
            "community_posted.title",
            "community_posted.text",
            "order_changed.order_id",
            "order_changed.status",
            "order_changed.items",
            "order_changed.amount",
            "order_changed.promised_at",
            "consent_changed.purpose",
            "consent_changed.channel",
            "consent_changed.status",
            "consent_changed.proof",
            "traits_observed.traits",
            "expectation_set.expectation_id",
            "expectation_set.promise",
            "expectation_set.due_at",
            "expectation_resolved.expectation_id",
            "expectation_resolved.outcome",
            "expectation_resolved.due_at",
        }
    ),
    directions=frozenset({facts_pb2.DIRECTION_INBOUND, facts_pb2.DIRECTION_OUTBOUND}),
)
READS = POLICY.reads
_SHOWN = 20


def fold(history: Sequence[Seen], now_us: int) -> views_pb2.CustomerView:
    """Folds what a customer may see of their profile.

    Args:
        history: What `see` made of the profile's events by this module's policy.
        now_us: The time at which promises stand so, in microseconds since 1970.
    """
    every = orders(history)
    return views_pb2.CustomerView(
        known_facts=[
            views_pb2.KnownFact(name=one.name, value=one.value, since=timestamp(one.since_us))
            for one in known(history)
        ],
        contacts=[show_contact(one) for one in reversed(contacts(history)[-_SHOWN:])],
        promises=[show_promise(promise) for promise in promises(history, every, now_us)],
        orders=[show_order(one) for one in every[:SHOWN_ORDERS]],
    )
