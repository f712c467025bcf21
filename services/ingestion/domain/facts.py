"""The rules of each kind of fact, as the comments in facts.proto tell them."""

from collections.abc import Callable
from typing import Any, Final

from services.ingestion.domain.custom_events import custom
from services.ingestion.domain.rules import (
    Violations,
    check_choices,
    check_list,
    check_money,
    check_names,
    check_reference,
    check_texts,
    check_time,
    choice,
    is_uuid,
    known,
    text,
    too_many,
)
from touchline.events.v1 import facts_pb2

_MAX_NAME: Final = 128
_MAX_PARTICIPANTS: Final = 64
_MAX_ITEMS: Final = 500
_MAX_RULES: Final = 16
_MAX_TRAITS: Final = 64
_MAX_TRAIT_NAME: Final = 128
_MAX_TRAIT_VALUE: Final = 4096

_CHANNELS: Final = known(facts_pb2.Channel)

_INTERACTION: Final = (
    text("network", 128),
    text("title", 1000),
    text("text", 65_536),
    text("intent", 128),
)
_INTERACTION_CHOICES: Final = (
    choice("channel", _CHANNELS, required=True),
    choice("direction", known(facts_pb2.Direction), required=True),
    choice("visibility", known(facts_pb2.Visibility)),
)
_COMMUNITY: Final = (
    text("community", 256, required=True),
    text("title", 1000),
    text("text", 65_536),
)
_ORDER: Final = (text("order_id", 256, required=True),)
_ORDER_CHOICES: Final = (
    choice("status", known(facts_pb2.OrderStatus)),
    choice("channel", _CHANNELS),
)
_ITEM: Final = (text("sku", 256), text("name", 1000))
_PRODUCT: Final = (text("product", 256, required=True), text("feature", 256))
_CASE: Final = (
    text("case_id", 256, required=True),
    text("subject", 1000),
    text("priority", 64),
)
_CASE_CHOICES: Final = (choice("status", known(facts_pb2.CaseStatus)),)
_CAMPAIGN: Final = (text("campaign", 256, required=True),)
_CAMPAIGN_CHOICES: Final = (
    choice("action", known(facts_pb2.CampaignAction), required=True),
    choice("channel", _CHANNELS),
)
_CONSENT: Final = (text("purpose", 256, required=True), text("proof", 1000))
_CONSENT_CHOICES: Final = (
    choice("status", known(facts_pb2.ConsentStatus), required=True),
    choice("channel", _CHANNELS),
)
_PREFERENCE: Final = (text("purpose", 256), text("note", 1000))
_PREFERENCE_CHOICES: Final = (
    choice("status", known(facts_pb2.PreferenceStatus), required=True),
    choice("channel", _CHANNELS, required=True),
)
_NOTE: Final = (text("text", 65_536, required=True),)
_SIGNAL: Final = (text("kind", 128, required=True), text("text", 4096))
_CHECK_IN: Final = (text("place", 256),)
_PAYMENT: Final = (text("payment_id", 256, required=True), text("method", 128))
_PAYMENT_CHOICES: Final = (
    choice("status", known(facts_pb2.PaymentStatus)),
    choice("channel", _CHANNELS),
)
_EXPECTATION: Final = (
    text("expectation_id", 256, required=True),
    text("promise", 1000, required=True),
    text("team", _MAX_NAME),
    text("promised_by", _MAX_NAME),
)
_RESOLUTION: Final = (
    text("expectation_id", 256, required=True),
    text("reason", 4096),
    text("promise", 1000),
    text("team", _MAX_NAME),
)
_RESOLUTION_CHOICES: Final = (
    choice("outcome", known(facts_pb2.ExpectationOutcome), required=True),
)
_ENDS: Final = (
    facts_pb2.EXPECTATION_OUTCOME_KEPT,
    facts_pb2.EXPECTATION_OUTCOME_BROKEN,
    facts_pb2.EXPECTATION_OUTCOME_WITHDRAWN,
)
_RETRACTION: Final = (text("reason", 1000),)
_OWN: Final = "is what Touchline's own services decide; a caller records facts"


def _interaction(fact: facts_pb2.Interaction, found: Violations) -> None:
    check_texts(fact, _INTERACTION, "interaction.", found)
    check_choices(fact, _INTERACTION_CHOICES, "interaction.", found)
    check_reference(fact.in_reply_to, "interaction.in_reply_to", found)
    check_names(fact.participants, _MAX_PARTICIPANTS, _MAX_NAME, "interaction.participants", found)


def _community(fact: facts_pb2.CommunityPosted, found: Violations) -> None:
    check_texts(fact, _COMMUNITY, "community_posted.", found)
    check_reference(fact.in_reply_to, "community_posted.in_reply_to", found)


def _order(fact: facts_pb2.OrderChanged, found: Violations) -> None:
    check_texts(fact, _ORDER, "order_changed.", found)
    check_choices(fact, _ORDER_CHOICES, "order_changed.", found)
    if fact.HasField("amount"):
        check_money(fact.amount, "order_changed.amount", found)
    if fact.HasField("promised_at"):
        check_time(fact.promised_at, "order_changed.promised_at", found)
    for item, path in check_list(fact.items, _MAX_ITEMS, "order_changed.items", found):
        check_texts(item, _ITEM, path, found)
        if item.HasField("unit_price"):
            check_money(item.unit_price, f"{path}unit_price", found)


def _product(fact: facts_pb2.ProductUsed, found: Violations) -> None:
    check_texts(fact, _PRODUCT, "product_used.", found)


def _case(fact: facts_pb2.CaseChanged, found: Violations) -> None:
    check_texts(fact, _CASE, "case_changed.", found)
    check_choices(fact, _CASE_CHOICES, "case_changed.", found)


def _campaign(fact: facts_pb2.CampaignTouched, found: Violations) -> None:
    check_texts(fact, _CAMPAIGN, "campaign_touched.", found)
    check_choices(fact, _CAMPAIGN_CHOICES, "campaign_touched.", found)


def _consent(fact: facts_pb2.ConsentChanged, found: Violations) -> None:
    check_texts(fact, _CONSENT, "consent_changed.", found)
    check_choices(fact, _CONSENT_CHOICES, "consent_changed.", found)


def _preference(fact: facts_pb2.PreferenceChanged, found: Violations) -> None:
    check_texts(fact, _PREFERENCE, "preference_changed.", found)
    check_choices(fact, _PREFERENCE_CHOICES, "preference_changed.", found)


def _traits(fact: facts_pb2.TraitsObserved, found: Violations) -> None:
    # A name is what somebody chose, so paths do not repeat it.
    traits = fact.traits
    if not traits:
        found.append(("traits_observed.traits", f"has no entries; give 1 to {_MAX_TRAITS}"))
    elif len(traits) > _MAX_TRAITS:
        found.append(("traits_observed.traits", too_many(len(traits), _MAX_TRAITS)))
    if not all(1 <= len(name) <= _MAX_TRAIT_NAME for name in traits):
        told = f"has a name that is empty or longer than {_MAX_TRAIT_NAME} characters"
        found.append(("traits_observed.traits", told))
    if any(len(value) > _MAX_TRAIT_VALUE for value in traits.values()):
        told = f"has a value of more than {_MAX_TRAIT_VALUE:,} characters; shorten it"
        found.append(("traits_observed.traits", told))


def _note(fact: facts_pb2.NoteAdded, found: Violations) -> None:
    check_texts(fact, _NOTE, "note_added.", found)


def _signal(fact: facts_pb2.SignalObserved, found: Violations) -> None:
    check_texts(fact, _SIGNAL, "signal_observed.", found)


def _check_in(fact: facts_pb2.CheckedIn, found: Violations) -> None:
    check_texts(fact, _CHECK_IN, "checked_in.", found)


def _payment(fact: facts_pb2.PaymentAttempted, found: Violations) -> None:
    check_texts(fact, _PAYMENT, "payment_attempted.", found)
    check_choices(fact, _PAYMENT_CHOICES, "payment_attempted.", found)
    if fact.HasField("amount"):
        check_money(fact.amount, "payment_attempted.amount", found)


def _expectation(fact: facts_pb2.ExpectationSet, found: Violations) -> None:
    check_texts(fact, _EXPECTATION, "expectation_set.", found)
    check_names(fact.rules, _MAX_RULES, _MAX_NAME, "expectation_set.rules", found)
    check_reference(fact.answers, "expectation_set.answers", found)
    if fact.HasField("due_at"):
        check_time(fact.due_at, "expectation_set.due_at", found)
    else:
        found.append(("expectation_set.due_at", "is missing; say until when"))


def _resolution(fact: facts_pb2.ExpectationResolved, found: Violations) -> None:
    check_texts(fact, _RESOLUTION, "expectation_resolved.", found)
    check_choices(fact, _RESOLUTION_CHOICES, "expectation_resolved.", found)
    check_names(fact.rules, _MAX_RULES, _MAX_NAME, "expectation_resolved.rules", found)
    has_time = fact.HasField("due_at")
    if has_time and fact.outcome in _ENDS:
        told = "must be empty unless the outcome is that it was renegotiated"
        found.append(("expectation_resolved.due_at", told))
    elif has_time:
        check_time(fact.due_at, "expectation_resolved.due_at", found)
    elif fact.outcome == facts_pb2.EXPECTATION_OUTCOME_RENEGOTIATED:
        found.append(("expectation_resolved.due_at", "is missing; say the new time"))


def _retraction(fact: facts_pb2.EventRetracted, found: Violations) -> None:
    check_texts(fact, _RETRACTION, "event_retracted.", found)
    if not is_uuid(fact.event_id):
        told = "is not a UUID; give the event_id of the event that no longer counts"
        found.append(("event_retracted.event_id", told))


Rule = Callable[[Any, Violations], None]
"""Adds what is wrong with a fact."""


def _services_own(name: str) -> Rule:
    def refuse(_: Any, found: Violations) -> None:
        found.append((name, _OWN))

    return refuse


_SERVICES_OWN: Final = (
    "aggregate_changed",
    "aggregate_snapshot",
    "score_crossed",
    "notification_decided",
    "delivery_attempted",
    "notification_read",
    "identity_decided",
    "profile_erased",
)

CALLER_RULES: Final[dict[str, Rule]] = {
    "interaction": _interaction,
    "community_posted": _community,
    "order_changed": _order,
    "product_used": _product,
    "case_changed": _case,
    "campaign_touched": _campaign,
    "consent_changed": _consent,
    "preference_changed": _preference,
    "traits_observed": _traits,
    "note_added": _note,
    "signal_observed": _signal,
    "expectation_set": _expectation,
    "expectation_resolved": _resolution,
    "event_retracted": _retraction,
    "checked_in": _check_in,
    "payment_attempted": _payment,
    "custom_event": custom,
    **{name: _services_own(name) for name in _SERVICES_OWN},
}
"""What holds for callers, by the name of the field of `Event.fact`."""
