"""One line or two for each thing that a view lists."""

from dataclasses import replace
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from libs.cli.rendering import palette, terms, words
from libs.cli.rendering.sheets import Item
from touchline.events.v1 import facts_pb2 as facts
from touchline.profile.v1 import views_pb2 as views

BRIEF = 60


def promise(one: views.Promise, now: datetime) -> Item:
    """Says how a promise stands."""
    symbol, style, state = _PROMISES[one.status]
    due = f"due {_when(one.due_at, now)}"
    reason = words.plain(one.reason)
    return Item(words.plain(one.promise), due, reason, symbol=symbol, style=style, state=state)


def signal(one: views.Signal, now: datetime) -> Item:
    """Says what somebody should know of."""
    return Item(
        words.human(one.kind),
        _when(one.occurred_at, now),
        words.plain(one.text),
        symbol=palette.SIGNAL,
        style=palette.ATTENTION,
    )


def contact(one: views.Contact, now: datetime) -> Item:
    """Tells a contact with what was said."""
    channel = words.CHANNELS.get(one.channel, "") or "contact"
    title, text, intent = map(words.plain, (one.title, one.text, one.intent))
    inbound = one.direction == facts.DIRECTION_INBOUND
    public = "public" if one.visibility == facts.VISIBILITY_PUBLIC else ""
    head = title or text or words.human(f"{intent or 'contact'} by {channel}")
    remarks = (
        channel if title or text else "",
        public,
        _when(one.occurred_at, now),
        intent if title or text else "",
        words.plain(one.actor_reference),
    )
    return Item(
        head,
        " · ".join(remark for remark in remarks if remark),
        text if title else "",
        symbol=palette.SAID_BY_CUSTOMER if inbound else palette.SAID_BY_COMPANY,
        style=palette.CUSTOMER if inbound else palette.COMPANY,
    )


def brief_contact(one: views.Contact, now: datetime) -> Item:
    """Tells a contact without what was said, unless nothing else names it."""
    told = contact(one, now)
    return replace(told, head=words.clip(told.head, BRIEF), text="")


def order(one: views.Order, now: datetime) -> Item:
    """Says what was ordered and where it is."""
    amount = words.money(one.amount) if one.HasField("amount") else ""
    waiting = one.status in (facts.ORDER_STATUS_PLACED, facts.ORDER_STATUS_SHIPPED)
    promised = waiting and one.HasField("promised_at")
    remarks = (
        terms.ORDER_STATES[one.status],
        amount,
        _when(one.placed_at, now),
        f"due {_when(one.promised_at, now)}" if promised else "",
    )
    return Item(
        terms.items(one.items) or f"Order {words.plain(one.order_id)}",
        " · ".join(remark for remark in (words.plain(one.order_id), *remarks) if remark),
        symbol=palette.ORDER,
        style=palette.CUSTOMER,
    )


def case(one: views.Case, now: datetime) -> Item:
    """Says what a case is about and how long it has been open."""
    opened = words.local(one.opened_at, now.tzinfo)
    remarks = (
        words.plain(one.priority),
        f"opened {words.distance(opened, now)}",
        terms.CASE_STATES[one.status] if one.status == facts.CASE_STATUS_PENDING else "",
    )
    return Item(
        words.plain(one.subject) or f"Case {words.plain(one.case_id)}",
        " · ".join(remark for remark in (words.plain(one.case_id), *remarks) if remark),
        symbol=palette.CASE,
        style=palette.ATTENTION,
    )


def consent(one: views.Consent, now: datetime) -> Item:
    """Says what the customer allows or forbids."""
    channel = words.CHANNELS.get(one.channel, "")
    granted = one.status == facts.CONSENT_STATUS_GRANTED
    by = f"{words.human(one.purpose)} by {channel}" if channel else words.human(one.purpose)
    return Item(
        by,
        f"since {_when(one.since, now)}",
        symbol=palette.KEPT if granted else palette.BROKEN,
        style=palette.GOOD if granted else palette.BAD,
        state="allowed" if granted else "forbidden",
    )


def campaign(one: views.Campaign, now: datetime) -> Item:
    """Says how far the customer went with a campaign."""
    action = terms.CAMPAIGN_ACTIONS[one.furthest_action]
    sent = one.furthest_action == facts.CAMPAIGN_ACTION_SENT
    return Item(
        words.plain(one.campaign),
        f"{action} · {_when(one.last_at, now)}",
        symbol=palette.SAID_BY_COMPANY if sent else palette.SAID_BY_CUSTOMER,
        style=palette.COMPANY if sent else palette.CUSTOMER,
    )


def channel(one: views.ChannelUse, now: datetime) -> Item:
    """Says how much the customer uses a channel."""
    name = words.CHANNELS.get(one.channel, "") or "without a channel"
    told_only = bool(one.outbound) and not one.inbound
    remarks = (
        f"{one.inbound:,} in" if one.inbound else "",
        f"{one.outbound:,} out" if one.outbound else "",
        f"last {_when(one.last_at, now)}",
    )
    return Item(
        f"{words.human(name)} {palette.TIMES} {one.total:,}",
        " · ".join(remark for remark in remarks if remark),
        symbol=palette.SAID_BY_COMPANY if told_only else palette.SAID_BY_CUSTOMER,
        style=palette.COMPANY if told_only else palette.CUSTOMER,
    )


def product(one: views.ProductUse, now: datetime) -> Item:
    """Says how much the customer uses a product."""
    lasted = f"{words.duration(one.duration_seconds)} · " if one.duration_seconds else ""
    return Item(
        f"{words.plain(one.product)} {palette.TIMES} {one.uses:,}",
        f"{lasted}last {_when(one.last_at, now)}",
        symbol=palette.USE,
        style=palette.CUSTOMER,
    )


def known(one: views.KnownFact, now: datetime) -> Item:
    """Says what the company knows, and since when."""
    since = words.date(words.local(one.since, now.tzinfo), now)
    return Item(
        f"{words.human(one.name)}: {words.plain(one.value)}",
        f"since {since}",
        symbol=palette.LEARNED,
    )


def _when(stamp: Timestamp, now: datetime) -> str:
    return words.when(words.local(stamp, now.tzinfo), now)


_PROMISES = {
    views.PROMISE_STATUS_UNSPECIFIED: (palette.OPEN, palette.COMPANY, "open"),
    views.PROMISE_STATUS_OPEN: (palette.OPEN, palette.COMPANY, "open"),
    views.PROMISE_STATUS_OVERDUE: (palette.OPEN, palette.ATTENTION, "overdue"),
    views.PROMISE_STATUS_KEPT: (palette.KEPT, palette.GOOD, "kept"),
    views.PROMISE_STATUS_BROKEN: (palette.BROKEN, palette.BAD, "broken"),
    views.PROMISE_STATUS_WITHDRAWN: (palette.WITHDRAWN, palette.QUIET, "withdrawn"),
}
