"""A customer as marketing sees them: where they are reached, by what, and what they allow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from services.profile.domain.contacts import contacts
from services.profile.domain.field_policy import FieldPolicy
from services.profile.domain.touches import Seen, of_type, timestamp
from touchline.events.v1 import event_pb2, facts_pb2
from touchline.profile.v1 import views_pb2

# Marketing sees that there was a contact, never what was said or what about, by whom or to whom;
# of an order only where it was placed. Cases, notes, signals, promises and traits are others'.
POLICY = FieldPolicy(
    frozenset(
        {
            "actor.kind",  # to tell the company's posts from the customer's
            "interaction.channel",
            "interaction.direction",
            "community_posted.community",  # names a medium; not shown
            "order_changed.status",  # to count where it was placed once
            "order_changed.channel",
            "product_used.product",
            "product_used.duration_seconds",
            "campaign_touched.campaign",
            "campaign_touched.action",
            "campaign_touched.channel",
            "consent_changed.purpose",
            "consent_changed.channel",
            "consent_changed.status",
            "consent_changed.proof",  # who writes to a customer must be able to show it
        }
    ),
    # Talk within the company is no use of a channel by the customer.
    directions=frozenset(
        {facts_pb2.DIRECTION_INBOUND, facts_pb2.DIRECTION_OUTBOUND, facts_pb2.DIRECTION_PEER}
    ),
)
READS = POLICY.reads
_ORDERED = (facts_pb2.ORDER_STATUS_UNSPECIFIED, facts_pb2.ORDER_STATUS_PLACED)

_Use = tuple[facts_pb2.Channel.ValueType, facts_pb2.Direction.ValueType, int]


def fold(history: Sequence[Seen], _now_us: int) -> views_pb2.MarketingView:
    """Folds what marketing may see of a profile.

    Args:
        history: What `see` made of the profile's events by this module's policy.
        _now_us: Not needed: nothing here ends by itself.
    """
    return views_pb2.MarketingView(
        channels=channels(history),
        campaigns=campaigns(history),
        products=products(history),
    )


def channels(history: Sequence[Seen]) -> list[views_pb2.ChannelUse]:
    """The channels on which there was any contact, the most used first."""
    uses: dict[facts_pb2.Channel.ValueType, list[_Use]] = defaultdict(list)
    for use in _uses(history):
        uses[use[0]].append(use)
    uses.pop(facts_pb2.CHANNEL_UNSPECIFIED, None)
    shown = [
        views_pb2.ChannelUse(
            channel=channel,
            inbound=sum(way == facts_pb2.DIRECTION_INBOUND for _, way, _ in used),
            outbound=sum(way == facts_pb2.DIRECTION_OUTBOUND for _, way, _ in used),
            total=len(used),
            last_at=timestamp(max(at_us for _, _, at_us in used)),
        )
        for channel, used in uses.items()
    ]
    return sorted(shown, key=lambda use: (-use.total, -use.last_at.ToMicroseconds(), use.channel))


def _uses(history: Sequence[Seen]) -> Iterator[_Use]:
    """Every use of a channel: contacts, campaigns sent or followed, orders, the product."""
    inbound, outbound = facts_pb2.DIRECTION_INBOUND, facts_pb2.DIRECTION_OUTBOUND
    undirected = facts_pb2.DIRECTION_UNSPECIFIED
    for contact in contacts(history):
        yield contact.channel, contact.direction, contact.seen.at_us
    for seen in history:
        if seen.type == event_pb2.EVENT_TYPE_PRODUCT_USED:
            yield facts_pb2.CHANNEL_APP, undirected, seen.at_us
        elif seen.type == event_pb2.EVENT_TYPE_CAMPAIGN_TOUCHED:
            touch = seen.event.campaign_touched
            sent = touch.action == facts_pb2.CAMPAIGN_ACTION_SENT
            # Opening a mail is a touch, but not a contact from the customer.
            yield touch.channel, outbound if sent else undirected, seen.at_us
        elif seen.type == event_pb2.EVENT_TYPE_ORDER_CHANGED:
            change = seen.event.order_changed
            if change.status in _ORDERED:
                yield change.channel, inbound, seen.at_us


def campaigns(history: Sequence[Seen]) -> list[views_pb2.Campaign]:
    """The campaigns that reached the customer, the last touched first."""
    touches: dict[str, list[Seen]] = defaultdict(list)
    for seen in of_type(history, event_pb2.EVENT_TYPE_CAMPAIGN_TOUCHED):
        touches[seen.event.campaign_touched.campaign].append(seen)
    shown = [
        views_pb2.Campaign(
            campaign=campaign,
            furthest_action=max(seen.event.campaign_touched.action for seen in told),
            last_at=timestamp(told[-1].at_us),
        )
        for campaign, told in touches.items()
    ]
    return sorted(shown, key=lambda one: (-one.last_at.ToMicroseconds(), one.campaign))


def products(history: Sequence[Seen]) -> list[views_pb2.ProductUse]:
    """The products the customer uses, the most used first."""
    uses: dict[str, list[Seen]] = defaultdict(list)
    for seen in of_type(history, event_pb2.EVENT_TYPE_PRODUCT_USED):
        uses[seen.event.product_used.product].append(seen)
    shown = [
        views_pb2.ProductUse(
            product=product,
            uses=len(told),
            duration_seconds=sum(seen.event.product_used.duration_seconds for seen in told),
            last_at=timestamp(told[-1].at_us),
        )
        for product, told in uses.items()
    ]
    return sorted(shown, key=lambda use: (-use.uses, -use.duration_seconds, use.product))
