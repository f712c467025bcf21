"""docs/rules.md says what rules do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from google.protobuf.json_format import ParseDict

from services.notification.domain import customers
from services.notification.domain.rules import NAMES
from services.profile.domain import Touch
from tests.given import touch
from tests.ruling import made_of, wrong_with
from touchline.events.v1.event_pb2 import Context, Event, Location
from touchline.events.v1.facts_pb2 import CheckedIn, PaymentAttempted
from touchline.notification.v1.notification_pb2 import RuleDefinition

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
RULES = {
    rule.name: rule
    for rule in (
        ParseDict(json.loads(block), RuleDefinition())
        for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    )
}


def at(time: str, latitude: float, longitude: float, name: str) -> Touch:
    place = Location(latitude=latitude, longitude=longitude, name=name)
    if name == "New York":
        return touch(time, context=Context(location=place), checked_in=CheckedIn(place="Astor"))
    paid = PaymentAttempted(payment_id="P-7")
    return touch(time, context=Context(location=place), payment_attempted=paid)


@pytest.mark.parametrize("name", sorted(RULES))
def test_its_rules_can_be_published(name: str) -> None:
    assert wrong_with(RULES[name]) == {}


@pytest.mark.parametrize(
    ("paid_at", "line"),
    [("2026-03-01 12:40", 0), ("2026-03-02 12:00", 1), ("2026-03-01 11:00", 2)],
)
def test_its_example_says_what_the_page_says(paid_at: str, line: int) -> None:
    said = re.findall(r"^- [a-z0-9 -]+: `([^`]+)`$", PAGE, re.MULTILINE)[line]
    paid = at(paid_at, 48.8566, 2.3522, "Paris")
    before = [at("2026-03-01 12:00", 40.7128, -74.006, "New York")] if line < 2 else []
    assert made_of(RULES["card-far-away"], paid, *before).reason == said


def test_it_lists_every_name() -> None:
    section = PAGE.split("## What it knows")[1].split("##")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == NAMES


def test_it_lists_what_customers_see() -> None:
    section = PAGE.split("## What customers see")[1].split("##")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE)
    listed = {
        name: frozenset(["*"]) if fields == "all" else frozenset(re.findall(r"`(\w+)`", fields))
        for name, fields in rows
    }
    assert listed == customers.FACTS
    facts = Event.DESCRIPTOR.oneofs_by_name["fact"].fields
    assert {one.name: one.number for one in facts}.keys() >= customers.FACTS.keys()
    for name, fields in listed.items():
        (fact,) = [one for one in facts if one.name == name]
        known = {field.name for field in fact.message_type.fields}  # type: ignore[union-attr]
        assert "*" in fields or fields <= known
