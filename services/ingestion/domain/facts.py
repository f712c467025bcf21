"""The rules of each kind of fact, as the comments in facts.proto tell them."""

from collections.abc import Callable
from typing import Any, Final

from services.ingestion.domain.rules import (
    Violations,
    check_choices,
    check_money,
    check_reference,
    check_texts,
    check_time,
    choice,
    is_uuid,
    known,
    text,
)
from touchline.events.v1 import facts_pb2

_MAX_PARTICIPANTS: Final = 64
_MAX_PARTICIPANT: Final = 128
_MAX_ITEMS: Final = 500
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
_NOTE: Final = (text("text", 65_536, required=True),)
_SIGNAL: Final = (text("kind", 128, required=True), text("text", 4096))
_EXPECTATION: Final = (
    text("expectation_id", 256, required=True),
    text("promise", 1000, required=True),
)
_RESOLUTION: Final = (text("expectation_id", 256, required=True), text("reason", 4096))
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
    participants = fact.participants
    if not participants:
        return
    if len(participants) > _MAX_PARTICIPANTS:
        found.append(("interaction.participants", _too_many(len(participants), _MAX_PARTICIPANTS)))
    for index, participant in enumerate(participants[:_MAX_PARTICIPANTS]):
        if len(participant) > _MAX_PARTICIPANT:
            told = f"has {len(participant):,} characters; at most {_MAX_PARTICIPANT} are allowed"
            found.append((f"interaction.participants[{index}]", told))


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
    items = fact.items
    if len(items) > _MAX_ITEMS:
        found.append(("order_changed.items", _too_many(len(items), _MAX_ITEMS)))
        return
    for index, item in enumerate(items):
        path = f"order_changed.items[{index}]."
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


def _traits(fact: facts_pb2.TraitsObserved, found: Violations) -> None:
    # A name is what somebody chose, so paths do not repeat it.
    traits = fact.traits
    if not traits:
        found.append(("traits_observed.traits", f"has no entries; give 1 to {_MAX_TRAITS}"))
    elif len(traits) > _MAX_TRAITS:
        found.append(("traits_observed.traits", _too_many(len(traits), _MAX_TRAITS)))
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


def _expectation(fact: facts_pb2.ExpectationSet, found: Violations) -> None:
    check_texts(fact, _EXPECTATION, "expectation_set.", found)
    if fact.HasField("due_at"):
        check_time(fact.due_at, "expectation_set.due_at", found)
    else:
        found.append(("expectation_set.due_at", "is missing; say until when"))


def _resolution(fact: facts_pb2.ExpectationResolved, found: Violations) -> None:
    check_texts(fact, _RESOLUTION, "expectation_resolved.", found)
    check_choices(fact, _RESOLUTION_CHOICES, "expectation_resolved.", found)
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


def _too_many(count: int, limit: int) -> str:
    return f"has {count:,} entries; at most {limit} are allowed"


def _aggregate_changed(_: Any, found: Violations) -> None:
    found.append(("aggregate_changed", _OWN))


def _aggregate_snapshot(_: Any, found: Violations) -> None:
    found.append(("aggregate_snapshot", _OWN))


Rule = Callable[[Any, Violations], None]
"""Adds what is wrong with a fact."""

RULES: Final[dict[str, Rule]] = {
    "interaction": _interaction,
    "community_posted": _community,
    "order_changed": _order,
    "product_used": _product,
    "case_changed": _case,
    "campaign_touched": _campaign,
    "consent_changed": _consent,
    "traits_observed": _traits,
    "note_added": _note,
    "signal_observed": _signal,
    "expectation_set": _expectation,
    "expectation_resolved": _resolution,
    "event_retracted": _retraction,
    "aggregate_changed": _aggregate_changed,
    "aggregate_snapshot": _aggregate_snapshot,
}
"""By the name of the field of `Event.fact`; each adds what is wrong with its fact."""
