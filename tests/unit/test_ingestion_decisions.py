"""What Touchline decides about customers is recorded by its services alone, and checked too."""

from collections.abc import Callable
from typing import Any

import pytest

from libs.identity.keys import IdentityKeys
from services.ingestion import domain
from tests.events import DECISIONS, FACTS, OF_SERVICES, an_event
from touchline.events.v1.event_pb2 import Event

NOW_US = 1_700_000_000_000_000
KEYS = IdentityKeys(b"\x1d" * 32)
LONG = "x" * 65_537


def told_to_callers(event: Event) -> list[str]:
    _, found = domain.identify(event, KEYS)
    return [path for path, _ in found + domain.violations_of(event, "default", NOW_US)]


def told_to_services(event: Event) -> list[str]:
    _, found = domain.identify(event, KEYS)
    found += domain.violations_of(event, "default", NOW_US, domain.SERVICE_RULES)
    return [path for path, _ in found]


@pytest.mark.parametrize("fact", DECISIONS)
def test_a_service_records_a_decision_and_a_caller_can_not(fact: str) -> None:
    event = an_event(fact)
    assert told_to_services(event) == []
    assert told_to_callers(event) == [fact]


@pytest.mark.parametrize("fact", FACTS)
def test_a_service_records_what_callers_may(fact: str) -> None:
    assert told_to_services(an_event(fact)) == []


def test_every_fact_that_is_not_for_callers_is_refused_with_the_reason() -> None:
    for fact in OF_SERVICES:
        event = an_event()
        getattr(event, fact).SetInParent()
        ((_, told),) = domain.violations_of(event, "default", NOW_US)
        assert told == "is what Touchline's own services decide; a caller records facts"


Spoil = Callable[[Any], object]

WRONG: list[tuple[str, str, Spoil]] = [
    ("score_crossed", "model", lambda fact: fact.ClearField("model")),
    ("score_crossed", "to_level", lambda fact: setattr(fact, "to_level", "x" * 129)),
    ("score_crossed", "score", lambda fact: setattr(fact, "score", float("nan"))),
    ("score_crossed", "score", lambda fact: setattr(fact, "score", float("-inf"))),
    ("notification_decided", "rule", lambda fact: fact.ClearField("rule")),
    ("notification_decided", "title", lambda fact: fact.ClearField("title")),
    ("notification_decided", "text", lambda fact: setattr(fact, "text", LONG)),
    ("notification_decided", "reason", lambda fact: setattr(fact, "reason", LONG)),
    ("notification_decided", "purpose", lambda fact: setattr(fact, "purpose", "x" * 257)),
    ("notification_decided", "kind", lambda fact: setattr(fact, "kind", 99)),
    (
        "notification_decided",
        "recipient.reference",
        lambda fact: setattr(fact.recipient, "reference", "x" * 129),
    ),
    (
        "notification_decided",
        "recipient.reference",
        lambda fact: setattr(fact.recipient, "customer", True),
    ),
    ("notification_decided", "rules", lambda fact: fact.rules.extend(["x"] * 17)),
    ("notification_decided", "rules[1]", lambda fact: fact.rules.append("x" * 129)),
    ("notification_decided", "expires_at", lambda fact: setattr(fact.expires_at, "seconds", -1)),
    ("notification_decided", "considered", lambda fact: [fact.considered.add() for _ in range(16)]),
    (
        "notification_decided",
        "considered[0].channel",
        lambda fact: fact.considered[0].ClearField("channel"),
    ),
    (
        "notification_decided",
        "considered[0].verdict",
        lambda fact: setattr(fact.considered[0], "verdict", 0),
    ),
    (
        "notification_decided",
        "considered[0].not_before",
        lambda fact: setattr(fact.considered[0].not_before, "nanos", -1),
    ),
    ("notification_decided", "values", lambda fact: [fact.values.add() for _ in range(64)]),
    ("notification_decided", "values[1].name", lambda fact: fact.values.add(value="7")),
    ("delivery_attempted", "notification_id", lambda fact: fact.ClearField("notification_id")),
    ("delivery_attempted", "channel", lambda fact: fact.ClearField("channel")),
    ("delivery_attempted", "outcome", lambda fact: fact.ClearField("outcome")),
    ("delivery_attempted", "outcome", lambda fact: setattr(fact, "outcome", 99)),
    ("delivery_attempted", "reason", lambda fact: setattr(fact, "reason", LONG)),
    ("delivery_attempted", "retry_at", lambda fact: setattr(fact.retry_at, "seconds", 1 << 50)),
    ("notification_read", "notification_id", lambda fact: setattr(fact, "notification_id", "7")),
    ("notification_read", "reader", lambda fact: setattr(fact, "reader", "x" * 129)),
]


@pytest.mark.parametrize(
    ("fact", "field", "spoil"),
    WRONG,
    ids=[f"{n}-{fact}-{field}" for n, (fact, field, _) in enumerate(WRONG)],
)
def test_what_is_wrong_with_a_decision_is_told_once_with_its_path(
    fact: str, field: str, spoil: Spoil
) -> None:
    event = an_event(fact)
    spoil(getattr(event, fact))
    assert told_to_services(event) == [f"{fact}.{field}"]


def test_a_decision_about_nobody_is_refused() -> None:
    event = an_event("notification_decided")
    event.ClearField("identities")
    assert told_to_services(event) == ["identities"]
