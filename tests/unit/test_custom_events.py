"""Custom events in expressions, in rules, and on the timeline."""

import json
import re
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.cli.rendering.custom import properties
from libs.cli.rendering.timeline import timeline
from libs.cli.stack import CHECKOUT
from libs.expressions.event_value import event_value
from libs.expressions.expression import Scope, compile_expression
from services.ingestion.schemas import read_properties
from services.notification.domain.rules import compile_rule
from tests.events import an_event
from tests.terminal import NOW, entries, joined, shown
from touchline.events.v1.event_pb2 import Event
from touchline.notification.v1.notification_pb2 import RuleDefinition

PAGE = (CHECKOUT / "docs" / "custom-events.md").read_text("utf-8")
KEPT = '{"title": "Glazing", "minutes": 42, "fee": 9.90, "guest": {"name": null}, "tags": ["a"]}'


def custom(text: str) -> Event:
    event = an_event("custom_event")
    event.custom_event.properties_json = text
    event.occurred_at.FromDatetime(NOW)
    return event


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("event.type", "custom_event"),
        ("event.fact.name == 'webinar.attended' && event.fact.properties.minutes >= 30", True),
        ("event.fact.properties.fee * 2.0", 19.8),
        ("event.fact.properties.guest.name == null", True),
        ("'a' in event.fact.properties.tags", True),
        ("has(event.fact.properties.rating)", False),
        ("'title' in event.fact.properties", True),
        ("event.fact.properties['minutes'] + 1", 43),
        ("recent.exists(e, e.fact.properties.minutes == 42)", True),
    ],
)
def test_expressions_read_properties(expression: str, value: object) -> None:
    compiled = compile_expression(expression, {"event", "recent"})
    whole = event_value(custom(KEPT))
    assert compiled.evaluate(Scope({"event": whole, "recent": [whole]})) == value
    reads = compiled.followed.reads
    scope = {
        "event": reads["event"].of(whole) if "event" in reads else {},
        "recent": [reads["recent"].of(whole) if "recent" in reads else {}],
    }
    assert compiled.evaluate(Scope(scope)) == value


def test_numbers_that_no_integer_of_expressions_holds_are_doubles() -> None:
    told: Any = event_value(custom('{"big": 123456789012345678901234567890, "least": -1}'))
    assert told["fact"]["properties"] == {"big": 123456789012345678901234567890.0, "least": -1}
    Scope({"event": told})


@settings(max_examples=100)
@given(st.dictionaries(st.text(max_size=5), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
), max_size=5))  # fmt: skip
def test_whatever_ingestion_takes_expressions_and_the_timeline_can_show(
    value: dict[str, Any],
) -> None:
    text = json.dumps(value)
    _, violations = read_properties(text)
    if violations:
        return
    Scope({"event": event_value(custom(text))})
    shown(timeline("9f", entries([custom(text)]), now=NOW), 80)


def test_the_timeline_tells_name_and_properties_with_their_digits() -> None:
    said = joined(shown(timeline("9f", entries([custom(KEPT)]), now=NOW), 120))
    assert "◇ custom" in said
    assert "Webinar attended" in said
    assert "title: Glazing · minutes: 42 · fee: 9.90 · guest.name: nothing · tags: a" in said


def test_many_or_long_properties_are_told_shortly() -> None:
    many = json.dumps({f"p{n}": n for n in range(12)})
    assert properties(many).endswith("p7: 7 · and 4 more")
    assert len(properties(json.dumps({"text": "word " * 1000}))) < 80
    assert properties("") == ""
    assert properties("{") == ""


def test_the_rule_of_the_page_is_one() -> None:
    blocks = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (rule,) = [block for block in blocks if '"condition"' in block]
    compile_rule(json_format.Parse(rule, RuleDefinition()))
    (kind,) = [block for block in blocks if '"schema"' in block]
    example = CHECKOUT / "examples" / "types" / "webinar-attended.json"
    assert json.loads(kind) == json.loads(example.read_text("utf-8"))
