"""The words for states, kinds and things."""

from collections.abc import Mapping, Sequence

from rich.text import Text

from libs.cli.rendering import palette, words
from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import facts_pb2 as facts
from touchline.events.v1 import identity_pb2 as ids
from touchline.profile.v1 import profile_pb2 as profiles

IDENTITY_KINDS = {
    ids.IDENTITY_KIND_EMAIL: "email",
    ids.IDENTITY_KIND_PHONE: "phone",
    ids.IDENTITY_KIND_DEVICE: "device",
    ids.IDENTITY_KIND_COOKIE: "cookie",
}
ORDER_STATES = {
    facts.ORDER_STATUS_UNSPECIFIED: "changed",
    facts.ORDER_STATUS_PLACED: "placed",
    facts.ORDER_STATUS_SHIPPED: "shipped",
    facts.ORDER_STATUS_DELIVERED: "delivered",
    facts.ORDER_STATUS_CANCELLED: "cancelled",
    facts.ORDER_STATUS_RETURNED: "returned",
}
CASE_STATES = {
    facts.CASE_STATUS_UNSPECIFIED: "changed",
    facts.CASE_STATUS_OPEN: "open",
    facts.CASE_STATUS_PENDING: "waits for the customer",
    facts.CASE_STATUS_SOLVED: "solved",
    facts.CASE_STATUS_CLOSED: "closed",
}
CAMPAIGN_ACTIONS = {
    facts.CAMPAIGN_ACTION_UNSPECIFIED: "touched",
    facts.CAMPAIGN_ACTION_SENT: "sent",
    facts.CAMPAIGN_ACTION_OPENED: "opened",
    facts.CAMPAIGN_ACTION_CLICKED: "clicked",
    facts.CAMPAIGN_ACTION_CONVERTED: "converted",
}
OUTCOMES = {
    int(facts.EXPECTATION_OUTCOME_KEPT): (palette.KEPT, palette.GOOD, "kept"),
    int(facts.EXPECTATION_OUTCOME_BROKEN): (palette.BROKEN, palette.BAD, "broken"),
    int(facts.EXPECTATION_OUTCOME_RENEGOTIATED): (palette.MOVED, palette.ATTENTION, "moved"),
    int(facts.EXPECTATION_OUTCOME_WITHDRAWN): (palette.WITHDRAWN, palette.QUIET, "withdrawn"),
}
SORTS = {
    ev.EVENT_TYPE_INTERACTION: "a contact",
    ev.EVENT_TYPE_COMMUNITY_POSTED: "a community post",
    ev.EVENT_TYPE_ORDER_CHANGED: "an order",
    ev.EVENT_TYPE_PRODUCT_USED: "product use",
    ev.EVENT_TYPE_CASE_CHANGED: "a case",
    ev.EVENT_TYPE_CAMPAIGN_TOUCHED: "a campaign",
    ev.EVENT_TYPE_CONSENT_CHANGED: "a consent",
    ev.EVENT_TYPE_PREFERENCE_CHANGED: "a preference",
    ev.EVENT_TYPE_TRAITS_OBSERVED: "something learned",
    ev.EVENT_TYPE_NOTE_ADDED: "a note",
    ev.EVENT_TYPE_SIGNAL_OBSERVED: "a signal",
    ev.EVENT_TYPE_EXPECTATION_SET: "a promise",
    ev.EVENT_TYPE_EXPECTATION_RESOLVED: "a promise's end",
    ev.EVENT_TYPE_EVENT_RETRACTED: "a retraction",
    ev.EVENT_TYPE_CHECKED_IN: "a check-in",
    ev.EVENT_TYPE_PAYMENT_ATTEMPTED: "a payment",
    ev.EVENT_TYPE_CUSTOM_EVENT: "an event of your own",
    ev.EVENT_TYPE_SCORE_CROSSED: "a change of score",
    ev.EVENT_TYPE_NOTIFICATION_DECIDED: "a notification",
    ev.EVENT_TYPE_DELIVERY_ATTEMPTED: "a delivery",
    ev.EVENT_TYPE_NOTIFICATION_READ: "a notification's reading",
    ev.EVENT_TYPE_IDENTITY_DECIDED: "a decision about who is who",
}


def identity(one: ids.Identity) -> str:
    """Returns an identity as a person names it, such as `email x@example.com`."""
    value = words.plain(one.value or one.canonical_value) or "erased"
    namespace = words.plain(one.namespace)
    if one.kind == ids.IDENTITY_KIND_SOCIAL_HANDLE:
        return f"{namespace} @{value.lstrip('@')}"
    return f"{namespace or IDENTITY_KINDS.get(one.kind, 'identity')} {value}"


def profile_name(profile: profiles.Profile) -> str:
    """Returns what a customer is called; empty when that is not known."""
    named = {one.name.lower().replace("_", ""): one.value for one in profile.attributes}
    parts = (words.plain(named.get(part, "")) for part in ("firstname", "lastname"))
    return words.clip(words.plain(named.get("name", "")) or " ".join(filter(None, parts)), 60)


def called(profile: profiles.Profile) -> str:
    """Returns a customer's name, or, as long as that is not known, the first identity."""
    name = profile_name(profile)
    return name or (identity(profile.identities[0].identity) if profile.identities else "")


def customer(profile_id: str, names: Mapping[str, str]) -> Text:
    """Returns what a customer is called, or the beginning of the profile's id."""
    if name := names.get(profile_id):
        return Text(name, style=palette.STRONG)
    return Text(profile_id[:8] or "nobody", style=palette.QUIET)


def items(ordered: Sequence[facts.OrderItem]) -> str:
    """Returns order items such as `1 x Ember 60 kiln, 2 x Set of shelves`."""
    named = [
        (f"{item.quantity} {palette.TIMES} " if item.quantity else "")
        + (words.plain(item.name) or words.plain(item.sku) or "an article")
        for item in ordered
    ]
    return ", ".join(named)
