"""The rules of an event: one row per rule that the comments in touchline.events.v1 tell."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.identity.keys import IdentityKeys
from services.ingestion import domain
from tests.events import FACTS, an_event, any_event
from touchline.events.v1.event_pb2 import Event

NOW = 1_700_000_000
KEYS = IdentityKeys(b"\x1d" * 32)
UUID = "018f3c5e-7c1a-7d4e-8a3b-2f6d9c0e1a2b"
CANARY = "Zaphod-canary"


def broken(event: Event, now: float = NOW) -> list[tuple[str, str]]:
    _, found = domain.identify(event, KEYS)
    return found + domain.violations_of(event, "default", int(now * 1_000_000))


def event_with(text: str) -> Event:
    """A valid event with a text-format snippet merged into it."""
    event = an_event()
    # Merging can only add: what the snippet gives anew has to go first.
    given_anew = text_format.Parse(text, Event())
    for name in ("identities", "occurred_at"):
        if f"{name} " in text:
            event.ClearField(name)
    if (fact := given_anew.WhichOneof("fact")) and fact != "interaction":
        event.ClearField("interaction")
    text_format.Merge(text, event)
    return event


def long(length: int) -> str:
    return "ä" * length


ALLOWED = {
    "as it is": "",
    "its own tenant named": "tenant: 'default'",
    "a UUID in capitals": f"event_id: '{UUID.upper()}'",
    "a cause": f"causation_id: '{UUID}'",
    "the first second": "occurred_at {}",
    "24 hours ahead": f"occurred_at {{ seconds: {NOW + 86_400} }}",
    "the end of a second": f"occurred_at {{ seconds: {NOW} nanos: 999999999 }}",
    "the poles": "context { location { latitude: -90 longitude: 180 } }",
    "an actor": "actor { kind: ACTOR_KIND_EMPLOYEE reference: 'agent-7' }",
    "sixteen identities": "".join(f"identities {{ kind: 6 value: 'c{n}' }}" for n in range(16)),
    "a namespace in any case": "identities { kind: 1 namespace: 'CRM' value: '7' }",
    "a phone number with its country": "identities { kind: 3 value: '+43 664 1234567' }",
    "a reply": f"interaction {{ in_reply_to: '{UUID}' }}",
    "64 participants": "interaction { " + "participants: 'agent-7' " * 64 + "}",
    "500 items": "order_changed { order_id: '1' " + "items { sku: '1' } " * 500 + "}",
    "a refund": "order_changed { order_id: '1' amount { currency_code: 'EUR' micros: -5 } }",
    "a deadline far ahead": "expectation_set { expectation_id: '1' promise: 'p' "
    "due_at { seconds: 253402300799 } }",
    "a trait that no longer holds": "traits_observed { traits { key: 'city' value: '' } }",
    "64 traits": "traits_observed { "
    + "".join(f"traits {{ key: 'n{n}' }} " for n in range(64))
    + "}",
    "16 rules": "expectation_set { expectation_id: '1' promise: 'p' due_at {} "
    + "rules: 'r' " * 16
    + "}",
    "a check-in that names no place": "checked_in { }",
    "money back": "payment_attempted { payment_id: '1' "
    "amount { currency_code: 'EUR' micros: -5 } }",
    "a promise kept": "expectation_resolved { expectation_id: '1' outcome: 1 }",
    "a promise renegotiated": "expectation_resolved { expectation_id: '1' outcome: 3 "
    "due_at { seconds: 1 } }",
}

REFUSED = {
    "no id": ("event_id: ''", "event_id", "is not a UUID"),
    "an id of another form": (f"event_id: '{UUID.replace('-', '')}'", "event_id", "is not a UUID"),
    "an id in braces": (f"event_id: '{{{UUID}}}'", "event_id", "is not a UUID"),
    "an id and a line break": (f"event_id: '{UUID}\\n'", "event_id", "is not a UUID"),
    "an id with other digits": (f"event_id: '{UUID[:-1]}٣'", "event_id", "is not a UUID"),
    "another tenant": ("tenant: 'acme'", "tenant", "is not the call's tenant"),
    "a cause that is no UUID": ("causation_id: 'order 7'", "causation_id", "is not a UUID"),
    "a time before 1970": ("occurred_at { seconds: -1 }", "occurred_at", "before 1970"),
    "a time in milliseconds": (
        f"occurred_at {{ seconds: {NOW}000 }}",
        "occurred_at",
        "more than 24 hours ahead",
    ),
    "a microsecond past 24 hours ahead": (
        f"occurred_at {{ seconds: {NOW + 86_400} nanos: 1000 }}",
        "occurred_at",
        "more than 24 hours ahead",
    ),
    "the latest time there is": (
        f"occurred_at {{ seconds: {2**63 - 1} }}",
        "occurred_at",
        "more than 24 hours ahead",
    ),
    "nanos below a second": ("occurred_at { nanos: -1 }", "occurred_at", "nanos"),
    "nanos of a whole second": ("occurred_at { nanos: 1000000000 }", "occurred_at", "nanos"),
    "past the north pole": (
        "context { location { latitude: 90.1 } }",
        "context.location.latitude",
        "-90 to 90",
    ),
    "past the south pole": (
        "context { location { latitude: -90.1 } }",
        "context.location.latitude",
        "-90 to 90",
    ),
    "a latitude that is no number": (
        "context { location { latitude: nan } }",
        "context.location.latitude",
        "-90 to 90",
    ),
    "around the world": (
        "context { location { longitude: 181 } }",
        "context.location.longitude",
        "-180 to 180",
    ),
    "an infinite longitude": (
        "context { location { longitude: -inf } }",
        "context.location.longitude",
        "-180 to 180",
    ),
    "17 identities": (
        "".join(f"identities {{ kind: 6 value: 'c{n}' }}" for n in range(17)),
        "identities",
        "give 1 to 16",
    ),
    "an identity without a kind": (
        "identities { value: 'a@b.example' }",
        "identities[0].kind",
        "is missing or unknown",
    ),
    "an identity kind of a later release": (
        "identities { kind: 99 value: 'a' }",
        "identities[0].kind",
        "is missing or unknown",
    ),
    "an external id of no system": (
        "identities { kind: 1 value: '7' }",
        "identities[0].namespace",
        "is required",
    ),
    "a handle of no network": (
        "identities { kind: 4 value: 'anna' }",
        "identities[0].namespace",
        "is required",
    ),
    "an email in a namespace": (
        "identities { kind: 2 namespace: 'crm' value: 'a@b.example' }",
        "identities[0].namespace",
        "must be empty",
    ),
    "an email that is none": (
        "identities { kind: 2 value: 'anna at example' }",
        "identities[0].value",
        "is not an email address",
    ),
    "a phone number without its country": (
        "identities { kind: 3 value: '0664 1234567' }",
        "identities[0].value",
        "has no country code",
    ),
    "letters for a phone number": (
        "identities { kind: 3 value: '+call me' }",
        "identities[0].value",
        "is not a phone number",
    ),
    "an empty identity": ("identities { kind: 6 value: ' ' }", "identities[0].value", "is empty"),
    "the second of two identities": (
        "identities { kind: 6 value: 'c' } identities { kind: 2 value: 'c' }",
        "identities[1].value",
        "is not an email address",
    ),
    "a reply to no UUID": (
        "interaction { in_reply_to: 'ticket 7' }",
        "interaction.in_reply_to",
        "is not a UUID",
    ),
    "a post that answers no UUID": (
        "community_posted { community: 'c' in_reply_to: '7' }",
        "community_posted.in_reply_to",
        "is not a UUID",
    ),
    "65 participants": (
        "interaction { " + "participants: 'a' " * 65 + "}",
        "interaction.participants",
        "has 65 entries; at most 64",
    ),
    "501 items": (
        "order_changed { order_id: '1' " + "items { } " * 501 + "}",
        "order_changed.items",
        "has 501 entries; at most 500",
    ),
    "an amount without a currency": (
        "order_changed { order_id: '1' amount { micros: 5 } }",
        "order_changed.amount.currency_code",
        "ISO 4217",
    ),
    "a currency in small letters": (
        "order_changed { order_id: '1' amount { currency_code: 'eur' } }",
        "order_changed.amount.currency_code",
        "ISO 4217",
    ),
    "a price without a currency": (
        "order_changed { order_id: '1' items { } items { unit_price { micros: 5 } } }",
        "order_changed.items[1].unit_price.currency_code",
        "ISO 4217",
    ),
    "a promise before 1970": (
        "order_changed { order_id: '1' promised_at { seconds: -1 } }",
        "order_changed.promised_at",
        "before 1970 or after 9999",
    ),
    "a promise after 9999": (
        "order_changed { order_id: '1' promised_at { seconds: 253402300800 } }",
        "order_changed.promised_at",
        "before 1970 or after 9999",
    ),
    "a deadline after 9999": (
        "expectation_set { expectation_id: '1' promise: 'p' due_at { seconds: 253402300800 } }",
        "expectation_set.due_at",
        "before 1970 or after 9999",
    ),
    "a deadline with wrong nanos": (
        "expectation_set { expectation_id: '1' promise: 'p' due_at { nanos: -1 } }",
        "expectation_set.due_at",
        "nanos",
    ),
    "renegotiated without a new time": (
        "expectation_resolved { expectation_id: '1' outcome: 3 }",
        "expectation_resolved.due_at",
        "is missing; say the new time",
    ),
    "renegotiated to a time before 1970": (
        "expectation_resolved { expectation_id: '1' outcome: 3 due_at { seconds: -1 } }",
        "expectation_resolved.due_at",
        "before 1970",
    ),
    "kept, with a new time": (
        "expectation_resolved { expectation_id: '1' outcome: 1 due_at { seconds: 1 } }",
        "expectation_resolved.due_at",
        "must be empty unless",
    ),
    "17 rules": (
        "expectation_resolved { expectation_id: '1' outcome: 2 " + "rules: 'r' " * 17 + "}",
        "expectation_resolved.rules",
        "has 17 entries; at most 16",
    ),
    "a promise to answer no UUID": (
        "expectation_set { expectation_id: '1' promise: 'p' due_at {} answers: 'ticket 7' }",
        "expectation_set.answers",
        "is not a UUID",
    ),
    "a payment without a currency": (
        "payment_attempted { payment_id: '1' amount { micros: 5 } }",
        "payment_attempted.amount.currency_code",
        "ISO 4217",
    ),
    "no traits": ("traits_observed { }", "traits_observed.traits", "has no entries"),
    "65 traits": (
        "traits_observed { " + "".join(f"traits {{ key: 'n{n}' }} " for n in range(65)) + "}",
        "traits_observed.traits",
        "has 65 entries; at most 64",
    ),
    "a trait without a name": (
        "traits_observed { traits { key: '' value: 'v' } }",
        "traits_observed.traits",
        "a name that is empty",
    ),
    "a trait with a long name": (
        f"traits_observed {{ traits {{ key: '{long(129)}' value: 'v' }} }}",
        "traits_observed.traits",
        "longer than 128 characters",
    ),
    "a trait with a long value": (
        f"traits_observed {{ traits {{ key: 'n' value: '{long(4097)}' }} }}",
        "traits_observed.traits",
        "more than 4,096 characters",
    ),
    "a retraction of no UUID": (
        "event_retracted { event_id: '7' }",
        "event_retracted.event_id",
        "is not a UUID",
    ),
}


@pytest.mark.parametrize("snippet", ALLOWED.values(), ids=ALLOWED.keys())
def test_what_the_comments_allow_is_accepted(snippet: str) -> None:
    assert broken(event_with(snippet)) == []


@pytest.mark.parametrize(("snippet", "path", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_what_the_comments_forbid_is_told_once_with_its_path(
    snippet: str, path: str, told: str
) -> None:
    ((field, description),) = broken(event_with(snippet))
    assert field == path
    assert told in description


@pytest.mark.parametrize("fact", FACTS)
def test_every_kind_of_fact_can_be_recorded(fact: str) -> None:
    event = an_event(fact)
    assert event.WhichOneof("fact") == fact
    assert broken(event) == []


@pytest.mark.parametrize(
    ("field", "told"),
    [("identities", "has 0 entries; give 1 to 16"), ("occurred_at", "is missing"), ("fact", "is")],
)
def test_what_every_event_needs_is_missed(field: Any, told: str) -> None:
    event = an_event()
    event.ClearField(field)
    ((path, description),) = broken(event)
    assert path == field
    assert told in description


def test_a_fact_of_a_later_release_is_refused_not_recorded_empty() -> None:
    event = an_event()
    event.ClearField("fact")
    later = Event.FromString(event.SerializeToString() + b"\xc2\x3e\x02\x08\x01")  # field 1000
    assert broken(later) == [("fact", "is missing, or of a kind this release does not know")]


def test_an_event_has_at_most_256_kib() -> None:
    def sized(size: int) -> Event:
        event = an_event()
        # A field that has no rule of its own, since the store ignores what callers set there.
        event.identities[0].canonical_value = "x" * size
        return event

    # Three varints hold the lengths of the value, of its identity and of nothing else.
    room = domain.MAX_EVENT_BYTES - sized(200_000).ByteSize() + 200_000
    assert broken(sized(room)) == []
    ((path, told),) = broken(sized(room + 1))
    assert path == ""
    assert "has 262,145 bytes and may have 262,144" in told


def test_all_that_is_wrong_is_told_at_once_up_to_twenty_rules() -> None:
    event = an_event("order_changed")
    event.event_id = ""
    for _ in range(400):
        event.order_changed.items.add().unit_price.micros = 1
    found = broken(event)
    assert len(found) == domain.MAX_VIOLATIONS
    assert found[0][0] == "event_id"
    assert found[1][0] == "order_changed.items[0].unit_price.currency_code"


def test_an_identity_that_is_wrong_does_not_hide_the_others() -> None:
    event = event_with("identities { kind: 2 value: 'x' } identities { kind: 3 value: 'y' }")
    assert [path for path, _ in broken(event)] == ["identities[0].value", "identities[1].value"]


WITH_CANARY: list[Callable[[Event], object]] = [
    lambda event: setattr(event, "event_id", CANARY),
    lambda event: setattr(event, "tenant", CANARY),
    lambda event: setattr(event, "causation_id", CANARY),
    lambda event: setattr(event.identities[0], "value", f"{CANARY} at example.com"),
    lambda event: setattr(event.identities[0], "namespace", CANARY),
    lambda event: event.identities.add(kind=3, value=CANARY),
    lambda event: event.identities.add(kind=3, value=f"+43 664 {CANARY}"),
    lambda event: event.identities.add(kind=2, value=f'"{CANARY}"@example.com'),
    lambda event: event.identities.add(kind=4, namespace="n", value=f"{CANARY}\n"),
    lambda event: event.traits_observed.traits.update({CANARY * 20: CANARY * 1000}),
    lambda event: setattr(event.event_retracted, "event_id", CANARY),
    lambda event: setattr(event.interaction, "in_reply_to", CANARY),
    lambda event: setattr(event.order_changed.amount, "currency_code", CANARY),
]


@pytest.mark.parametrize("spoil", WITH_CANARY)
def test_no_violation_repeats_a_value(spoil: Callable[[Event], object]) -> None:
    event = an_event()
    event.source = CANARY * 20
    event.conversation_id = CANARY * 40
    spoil(event)
    found = broken(event)
    assert len(found) >= 2
    assert CANARY.lower() not in str(found).lower()


@given(any_event(), st.floats(0, 4e9))
@settings(max_examples=150, deadline=None)
def test_any_event_gets_a_verdict(event: Event, now: float) -> None:
    identities, found = domain.identify(event, KEYS)
    found = found + domain.violations_of(event, "default", int(now * 1_000_000))
    assert found or identities
    assert all(isinstance(path, str) and told for path, told in found)
