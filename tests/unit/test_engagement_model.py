"""What a scoring model may say, and which events it counts."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
from google.protobuf import text_format
from google.protobuf.duration_pb2 import Duration

from libs.cli.stack import CHECKOUT
from libs.expressions import EvaluationError, Scope, event_value
from services.engagement.domain.default_model import default_model
from services.engagement.domain.model import Candidates, Model, compile_model
from services.engagement.domain.violations import violations
from services.engagement.models import from_text, to_text
from tests.events import FACTS, an_event
from touchline.engagement.v1.engagement_pb2 import ModelDefinition
from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import facts_pb2 as facts
from touchline.store.v1.store_pb2 import RecordedEvent

GOOD = """
    name: 'churn' levels { name: 'low' from_score: 1 } levels { name: 'high' from_score: 2.5 }
    rules { name: 'use' weight: 1.5 half_life { seconds: 86400 } day_cap: 3 total_cap: 30
            on { types: EVENT_TYPE_PRODUCT_USED } condition: 'event.fact.product == "app"' }
    rules { name: 'contact' weight: -0.001 }
"""


def definition(text: str = GOOD) -> ModelDefinition:
    return text_format.Parse(text, ModelDefinition())


def changed(path: str, value: object) -> ModelDefinition:
    """The good definition with one field changed, by a path such as `rules[0].weight`."""
    whole = definition()
    *parents, name = re.findall(r"\w+", path)
    target: object = whole
    for part in parents:
        target = target[int(part)] if part.isdigit() else getattr(target, part)  # type: ignore[index]
    field = getattr(target, name)
    if isinstance(value, list):
        del field[:]
        field.extend(value)
    elif isinstance(value, Duration):
        field.CopyFrom(value)
    else:
        setattr(target, name, value)
    return whole


@pytest.mark.parametrize("good", [definition(), default_model()], ids=["small", "default"])
def test_a_good_model_has_no_violations_and_is_kept_as_it_was_sent(good: ModelDefinition) -> None:
    assert violations(good) == []
    assert from_text(to_text(good)) == good
    assert len(compile_model(good).rules) == len(good.rules)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("name", "", "must be 1 to 64"),
        ("name", "Default", "must be 1 to 64"),
        ("name", "x" * 65, "must be 1 to 64"),
        ("name", "churn\n", "must be 1 to 64"),
        ("description", "x" * 1_001, "longer than 1,000"),
        ("rules", [], "has no entries"),
        ("rules[1].name", "use", "taken by another one before"),
        ("rules[0].name", "Use", "must be 1 to 64"),
        ("rules[0].weight", 0.0, "missing or 0"),
        ("rules[0].weight", float("nan"), "not a finite number"),
        ("rules[0].weight", float("inf"), "not a finite number"),
        ("rules[0].weight", float("-inf"), "not a finite number"),
        ("rules[0].weight", 1_000.001, "from -1,000 to 1,000"),
        ("rules[0].weight", 0.0005, "three decimals"),
        ("rules[0].half_life", Duration(), "must be more than 0"),
        ("rules[0].half_life", Duration(seconds=-1), "must be more than 0"),
        ("rules[0].half_life", Duration(nanos=-1), "must be more than 0"),
        ("rules[0].half_life", Duration(seconds=3_654 * 86_400), "at most 10 years"),
        ("rules[0].half_life", Duration(seconds=1, nanos=2 * 10**9), "nanos are out of range"),
        ("rules[0].day_cap", -1.0, "from 0 to"),
        ("rules[0].day_cap", float("nan"), "not a finite number"),
        ("rules[0].day_cap", 0.0001, "three decimals"),
        ("rules[0].total_cap", 1e10, "from 0 to"),
        ("rules[0].condition", "x" * 2_001, "longer than 2,000"),
        ("rules[0].condition", "event.fact.", "does not compile: line 1, column"),
        ("rules[0].condition", "customer.age > 3", "does not compile: line 1, column 1"),
        ("rules[0].on.types[0]", [33], "belongs to no customer"),
        ("rules[0].on.types[0]", [32], "takes back"),
        ("rules[0].on.types[0]", [37], "could move for ever"),
        ("rules[0].on.types[0]", [77], "does not know"),
        ("rules[0].on.channels[0]", [99], "does not know"),
        ("rules[0].on.directions[0]", [99], "does not know"),
        ("rules[0].on.visibilities[0]", [-1], "does not know"),
        ("levels[0].name", "", "must be 1 to 64"),
        ("levels[1].name", "low", "taken by another one before"),
        ("levels[0].from_score", 0.0, "more than 0"),
        ("levels[0].from_score", float("nan"), "not a finite number"),
        ("levels[1].from_score", 1.0, "rising score"),
    ],
)
def test_each_broken_rule_is_told_with_its_field(path: str, value: object, told: str) -> None:
    wrong = changed(path.removesuffix("[0]") if isinstance(value, list) else path, value)
    [(field, description)] = violations(wrong)
    assert field == f"definition.{path}"
    assert told in description


def test_every_broken_rule_is_told_and_the_place_in_a_condition() -> None:
    wrong = definition("name: 'x' rules { name: 'a' weight: nan condition: 'true &&\\n &&' }")
    fields = dict(violations(wrong))
    assert list(fields) == ["definition.rules[0].weight", "definition.rules[0].condition"]
    assert "line 2, column 2" in fields["definition.rules[0].condition"]


def test_there_are_at_most_50_rules_and_10_levels() -> None:
    many = ModelDefinition(name="many")
    for number in range(51):
        many.rules.add(name=f"r{number}", weight=1)
        many.levels.add(name=f"l{number}", from_score=number + 1)
    assert [field for field, _ in violations(many)] == ["definition.rules"]
    del many.rules[50:]
    assert [field for field, _ in violations(many)] == ["definition.levels"]


def on(filters: str) -> Model:
    return compile_model(
        definition(f"name: 'x' rules {{ name: 'r' weight: 1 on {{ {filters} }} }}")
    )


def contact(**fields: int) -> RecordedEvent:
    return RecordedEvent(type=ev.EVENT_TYPE_INTERACTION, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("filters", "record", "counts"),
    [
        ("", contact(), True),
        ("", RecordedEvent(type=ev.EVENT_TYPE_NOTIFICATION_READ), False),
        ("", RecordedEvent(type=ev.EVENT_TYPE_EVENT_RETRACTED, retracts=b"e"), False),
        ("types: 40", RecordedEvent(type=ev.EVENT_TYPE_NOTIFICATION_READ), True),
        ("types: [23, 22]", contact(), False),
        ("types: [23, 20]", contact(), True),
        ("types: [23, 0]", contact(), True),
        ("channels: 1", contact(), False),
        ("channels: [2, 1]", contact(channel=facts.CHANNEL_PHONE), True),
        ("directions: 1", contact(direction=facts.DIRECTION_OUTBOUND), False),
        ("directions: 1 channels: 1", contact(direction=1, channel=2), False),
        ("visibilities: 2", contact(), True),
        ("visibilities: 1", contact(), False),
        ("visibilities: 1", contact(visibility=facts.VISIBILITY_PUBLIC), True),
    ],
)
def test_a_filter_looks_at_the_envelope(filters: str, record: RecordedEvent, counts: bool) -> None:
    assert on(filters).candidates(record) == Candidates((0,) if counts else (), ())


def test_a_condition_looks_into_the_event_and_one_that_fails_does_not_count() -> None:
    model = compile_model(
        definition("""name: 'x'
            rules { name: 'all' weight: 1 }
            rules { name: 'mails' weight: 1 condition: 'event.channel == "email"' }
            rules { name: 'paid' weight: 1 condition: 'event.fact.amount.amount > 1.0' }""")
    )
    assert model.candidates(contact()) == Candidates((0,), (1, 2))
    assert model.met((1, 2), an_event("interaction")) == (1,)
    assert model.met((1, 2), an_event("order_changed")) == ()


@pytest.mark.parametrize("fact", sorted(FACTS))
def test_a_condition_holds_alike_with_the_whole_event(fact: str) -> None:
    event = an_event(fact)
    whole = Scope({"event": event_value(event)})
    model = compile_model(default_model())
    numbers = [n for n, one in enumerate(model.rules) if one.condition is not None]
    held = []
    for number in numbers:
        with suppress(EvaluationError):
            condition = model.rules[number].condition
            if condition is not None and condition.test(whole):
                held.append(number)
    assert model.met(numbers, event) == tuple(held)


def test_a_level_is_reached_from_its_score_on() -> None:
    model = compile_model(definition())
    levels = [model.level_of(points) for points in (-3.0, 0.999, 1.0, 2.499, 2.5, 90.0)]
    assert levels == ["", "", "low", "low", "high", "high"]


def by_default(fact: str, said: str) -> list[str]:
    """The rules of the default model by which an event counts."""
    event = an_event(fact)
    getattr(event, fact).Clear()
    text_format.Parse(said, getattr(event, fact))
    kind = ev.Event.DESCRIPTOR.fields_by_name[fact].number
    record = RecordedEvent(type=kind)  # type: ignore[arg-type]
    if fact == "interaction":
        record.direction = event.interaction.direction
    model = compile_model(default_model())
    certain, conditional = model.candidates(record)
    return [model.rules[n].name for n in certain + model.met(conditional, event)]


@pytest.mark.parametrize(
    ("fact", "said", "rules"),
    [
        ("product_used", "product: 'kiln'", ["product_use"]),
        ("order_changed", "order_id: '7' status: ORDER_STATUS_PLACED", ["orders"]),
        ("order_changed", "order_id: '7' status: ORDER_STATUS_SHIPPED", []),
        ("order_changed", "order_id: '7'", []),
        ("order_changed", "order_id: '7' status: ORDER_STATUS_RETURNED", ["returns"]),
        ("interaction", "channel: 1 direction: DIRECTION_INBOUND", ["contacts"]),
        ("interaction", "channel: 1 direction: 1 intent: 'complaint'", ["complaints"]),
        ("interaction", "channel: 1 direction: DIRECTION_OUTBOUND", []),
        ("campaign_touched", "campaign: 'c' action: CAMPAIGN_ACTION_SENT", []),
        ("campaign_touched", "campaign: 'c' action: CAMPAIGN_ACTION_OPENED", ["campaign_opens"]),
        ("campaign_touched", "campaign: 'c' action: CAMPAIGN_ACTION_CLICKED", ["campaign_answers"]),
        ("consent_changed", "purpose: 'n' status: CONSENT_STATUS_GRANTED", ["consents"]),
        ("consent_changed", "purpose: 'n' status: CONSENT_STATUS_WITHDRAWN", ["withdrawals"]),
        ("expectation_resolved", "outcome: EXPECTATION_OUTCOME_BROKEN", ["broken_promises"]),
        ("expectation_resolved", "outcome: EXPECTATION_OUTCOME_KEPT", []),
        ("community_posted", "community: 'c'", ["community"]),
        ("note_added", "text: 'n'", []),
    ],
)
def test_the_default_model_counts(fact: str, said: str, rules: list[str]) -> None:
    assert by_default(fact, said) == rules


def test_the_page_on_scoring_says_what_the_default_model_says() -> None:
    page = Path(CHECKOUT, "docs", "scoring.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)` \| (.*) \|[^|]*\|$", page, re.MULTILINE))
    assert told == {
        rule.name: " | ".join(
            [
                f"{rule.weight:g}",
                f"{rule.half_life.ToSeconds() // 86_400} days",
                f"{rule.day_cap:g}" if rule.day_cap else "none",
                f"{rule.total_cap:g}" if rule.total_cap else "none",
            ]
        )
        for rule in default_model().rules
    }
