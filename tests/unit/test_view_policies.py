"""A field a view may not show can't appear in it."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from services.profile.domain import VIEWS, Touch, show
from services.profile.domain.attributes import POLICY as ATTRIBUTES_POLICY
from services.profile.domain.field_policy import FieldPolicy, mask
from tests.events import DECISIONS, an_event
from tests.given import consents, email
from tests.histories import FACTS, NOW_US, fill
from touchline.events.v1 import event_pb2, facts_pb2
from touchline.profile.v1 import views_pb2

Kind: TypeAlias = "views_pb2.ViewKind.ValueType"
SALES, SERVICE, MARKETING, CUSTOMER = VIEWS
KINDS = pytest.mark.parametrize("kind", VIEWS, ids=views_pb2.ViewKind.Name)
POLICIES = pytest.mark.parametrize(
    "policy", [*(v.policy for v in VIEWS.values()), ATTRIBUTES_POLICY]
)
# These link events to one another, so their canaries can't differ from event to event.
LINKS = ("conversation_id", "expectation_set.expectation_id", "expectation_resolved.expectation_id")

TALK = {"interaction.title", "interaction.text", "interaction.intent"}
POST = {"community_posted.title", "community_posted.text"}
ORDER = {
    "order_changed.order_id",
    "order_changed.amount.currency_code",
    "order_changed.items.sku",
    "order_changed.items.name",
    "order_changed.items.unit_price.currency_code",
}
PROMISE = {"expectation_set.promise"}
CONSENT = {"consent_changed.purpose", "consent_changed.proof"}
SHOWN = {
    SALES: {"source", "actor.reference", "expectation_resolved.reason"}
    | {"signal_observed.kind", "signal_observed.text"}
    | (TALK - {"interaction.text"} | ORDER | PROMISE),
    SERVICE: {"source", "actor.reference", "expectation_resolved.reason", "order_changed.order_id"}
    | {"case_changed.case_id", "case_changed.subject", "case_changed.priority"}
    | (TALK | POST | PROMISE),
    MARKETING: {"product_used.product", "campaign_touched.campaign"} | CONSENT,
    CUSTOMER: {"source", "traits_observed.traits"} | TALK | POST | ORDER | PROMISE | CONSENT,
}


def allowed(path: str, policy: FieldPolicy) -> bool:
    parts = path.split(".")
    return any(".".join(parts[:end]) in policy.fields for end in range(1, len(parts) + 1))


def canaries(number: int, chance: random.Random) -> Touch:
    """An event whose every text names its field and its event, with any fact."""
    event = event_pb2.Event()

    def leaf(known: FieldDescriptor, path: str) -> Any:
        if known.enum_type is not None:
            return chance.choice([value.number for value in known.enum_type.values])
        if known.message_type is not None:
            return Timestamp(seconds=NOW_US // 1_000_000 + chance.randint(-99, 99))
        if path == "event_retracted.event_id":
            return str(UUID(int=chance.randint(1, number)))
        if known.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return f"<link {path}>" if path in LINKS else f"<{path}#{number}>"
        return chance.randint(1, 9)

    name = chance.choice(sorted(FACTS))
    fact: Message = getattr(event, name)
    fill(event, leaf, lambda: 2)
    fill(fact, leaf, lambda: 2, name + ".")
    for link in ("expectation_set", "expectation_resolved"):
        if name == link:
            getattr(event, link).expectation_id = "<link>"
    key = UUID(int=number)
    event.event_id = str(key)
    at_us = NOW_US + chance.randint(-99, 99) * 1_000_000
    return Touch(number, at_us, at_us, event, key.bytes)


@KINDS
def test_no_text_of_a_field_or_an_event_outside_its_policy_appears_in_a_view(
    kind: views_pb2.ViewKind.ValueType,
) -> None:
    policy = VIEWS[kind].policy
    appeared = set()
    for seed in range(60):
        chance = random.Random(seed)
        touches = [canaries(number, chance) for number in range(1, 40)]
        shown = (
            show(kind, touches, NOW_US, consents(*touches)).SerializeToString().decode("latin-1")
        )
        retracted = {touch.event.event_retracted.event_id for touch in touches}
        for path, number in re.findall(r"<([\w.]+)#(\d+)>", shown):
            event = touches[int(number) - 1].event
            assert allowed(path, policy)
            assert policy.admits(event)
            assert event.event_id not in retracted
            appeared.add(path)
        assert "<link conversation_id>" not in shown
    assert appeared == SHOWN[kind]


def paths(message: Message, prefix: str = "") -> Iterator[str]:
    """The paths of all scalar fields that are set."""
    for known, value in message.ListFields():
        path = prefix + known.name
        if known.message_type is None or known.message_type.GetOptions().map_entry:
            yield path
        else:
            for inner in value if known.is_repeated else [value]:
                yield from paths(inner, path + ".")


@POLICIES
@pytest.mark.parametrize("fact", sorted(FACTS))
def test_a_mask_leaves_exactly_the_allowed_fields(policy: FieldPolicy, fact: str) -> None:
    numbers = count(1)
    event = event_pb2.Event()

    def leaf(known: FieldDescriptor, _: str) -> Any:
        if known.message_type is not None:
            return Timestamp(seconds=next(numbers))
        text = known.cpp_type == FieldDescriptor.CPPTYPE_STRING
        return str(next(numbers)) if text else 1 if known.enum_type else next(numbers)

    fill(event, lambda known, path: path == "historical" or leaf(known, path), lambda: 2)
    fill(getattr(event, fact), leaf, lambda: 2)
    before = event_pb2.Event()
    before.CopyFrom(event)

    masked = mask(event, policy)

    kept = {path for path in paths(event) if allowed(path, policy)}
    assert set(paths(masked)) == kept
    assert mask(masked, policy) == masked
    assert event == before
    # That a retraction names its target is needed before a view is folded, never in it.
    read = FACTS[fact].number in policy.reads - {event_pb2.EVENT_TYPE_EVENT_RETRACTED}
    assert masked.WhichOneof("fact") == (fact if read else None)


@KINDS
def test_a_view_reads_the_types_its_policy_names_and_retractions(
    kind: views_pb2.ViewKind.ValueType,
) -> None:
    heads = {path.split(".")[0] for path in VIEWS[kind].policy.fields}
    named = {FACTS[head].number for head in heads & FACTS.keys()}
    assert VIEWS[kind].reads == named | {event_pb2.EVENT_TYPE_EVENT_RETRACTED}


@KINDS
def test_no_view_reads_notes_places_others_or_why_something_was_retracted(
    kind: views_pb2.ViewKind.ValueType,
) -> None:
    hidden = ("note_added", "event_retracted", "identities", "tenant", "context")
    policy = VIEWS[kind].policy
    assert not [path for path in policy.fields if path.split(".")[0] in hidden]
    assert not allowed("interaction.participants", policy)


@KINDS
@pytest.mark.parametrize("fact", DECISIONS)
def test_no_view_knows_what_touchline_decided(
    kind: views_pb2.ViewKind.ValueType, fact: str
) -> None:
    assert not VIEWS[kind].policy.admits(an_event(fact))


@KINDS
def test_private_talk_between_customers_is_admitted_by_no_view(
    kind: views_pb2.ViewKind.ValueType,
) -> None:
    talk = email("2024-05-01", "peer").event
    assert not VIEWS[kind].policy.admits(talk)
    talk.interaction.visibility = facts_pb2.VISIBILITY_PUBLIC
    assert VIEWS[kind].policy.admits(talk) == (kind in (SERVICE, MARKETING))


@pytest.mark.parametrize("path", ["interaction.titel", "interaction", "source.name", "notes"])
def test_a_policy_that_names_no_field_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="no event has"):
        FieldPolicy(frozenset({path}))


def test_the_documented_table_is_what_the_policies_say() -> None:
    page = Path(__file__).parents[2] / "docs" / "views.md"
    rows = re.findall(r"^\| `([\w.]+)` \|(.*)\|$", page.read_text(), re.MULTILINE)
    told = {path: tuple("●" in cell for cell in cells.split("|")) for path, cells in rows}
    policies = [view.policy.fields for view in VIEWS.values()]
    assert told == {
        path: tuple(path in fields for fields in policies) for path in frozenset().union(*policies)
    }
