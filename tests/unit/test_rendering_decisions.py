"""A timeline tells check-ins, payments and what Touchline decided in words."""

from datetime import timedelta

import pytest
from google.protobuf import text_format

from libs.cli.rendering import palette
from libs.cli.rendering.terms import SORTS
from libs.cli.rendering.timeline import timeline
from tests.events import DECISIONS, FACTS, OF_AGGREGATES, an_event
from tests.terminal import NOW, entries, joined, shown
from touchline.events.v1.event_pb2 import Event

NOTIFICATION = "018f3c5e-7c1a-7d4e-8a3b-2f6d9c0e1a2b"


def happened(fact: str, snippet: str = "", minutes_ago: int = 5, event_id: str = "") -> Event:
    event = text_format.Merge(snippet, an_event(fact, event_id=event_id))
    event.occurred_at.FromDatetime(NOW - timedelta(minutes=minutes_ago))
    return event


def told(*events: Event, width: int = 120) -> str:
    return joined(shown(timeline("0" * 32, entries(events), now=NOW), width))


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("fact", [*FACTS, *DECISIONS])
def test_every_fact_about_a_customer_has_a_line_at_any_width(fact: str, width: int) -> None:
    assert "does not know" not in told(happened(fact), width=width)


def test_every_fact_about_a_customer_has_a_word_for_when_it_is_erased() -> None:
    facts = {field.number for field in Event.DESCRIPTOR.oneofs_by_name["fact"].fields}
    streams = {Event.DESCRIPTOR.fields_by_name[name].number for name in OF_AGGREGATES}
    assert {*SORTS} == facts - streams


def test_a_check_in_says_where() -> None:
    assert "Checked in at Hotel Adler" in told(happened("checked_in"))
    named = happened("checked_in", "context { location { name: 'New York' } }")
    assert "Checked in at Hotel Adler New York" in told(named)
    named.checked_in.ClearField("place")
    assert "Checked in at New York" in told(named)
    named.ClearField("context")
    assert "Checked in" in told(named)
    assert "Checked in at" not in told(named)


def test_a_payment_says_how_much_how_and_whether_it_went_through() -> None:
    paid = happened("payment_attempted", "context { location { name: 'Paris' } }")
    assert "Payment of € 11.77 approved card · Paris · p-7" in told(paid)
    refused = "payment_attempted { status: PAYMENT_STATUS_DECLINED channel: CHANNEL_WEB }"
    assert "€ 11.77 declined card · by web" in told(happened("payment_attempted", refused))
    bare = Event(event_id=paid.event_id, source="bank")
    bare.payment_attempted.payment_id = "p-8"
    bare.occurred_at.FromDatetime(NOW)
    assert "Payment tried p-8" in told(bare)


def test_a_crossing_says_which_way_and_between_which_levels() -> None:
    rose = told(happened("score_crossed"))
    assert f"Score rose to 42.0: warm {palette.ARROW} hot model default v1" in rose
    fallen = happened("score_crossed", "score_crossed { score: 3.25 }")
    fallen.score_crossed.rising = False
    fallen.score_crossed.ClearField("to_level")
    assert f"Score fell to 3.2: warm {palette.ARROW} no level" in told(fallen)


def test_a_notification_says_who_is_told_what_by_which_rule_and_over_which_channels() -> None:
    more = (
        "notification_decided { considered { channel: NOTIFICATION_CHANNEL_EMAIL "
        "verdict: CHANNEL_VERDICT_SUPPRESSED reason: 'no consent' } }"
    )
    text = told(happened("notification_decided", more))
    assert "team:desk Call back" in text
    assert "rule delays v1 · inbox chosen · email suppressed" in text
    assert "It is late." in text
    task = happened("notification_decided", "notification_decided { kind: NOTIFICATION_KIND_TASK }")
    assert "task" in told(task)
    assert "task" not in text


def test_a_delivery_names_its_notification_and_when_it_is_tried_again() -> None:
    decided = happened("notification_decided", event_id=NOTIFICATION, minutes_ago=9)
    sent = happened("delivery_attempted")
    assert "team:desk Email sent Call back" in told(decided, sent)
    assert "Email sent" in told(sent)
    again = happened(
        "delivery_attempted",
        "delivery_attempted { outcome: DELIVERY_OUTCOME_DEFERRED attempt: 2 "
        "reason: 'the server answered 451' possibly_repeated: true }",
    )
    again.delivery_attempted.retry_at.FromDatetime(NOW + timedelta(minutes=4))
    text = told(decided, again)
    assert "Email deferred" in text
    assert "attempt 2 · again today 15:24 · perhaps the second time" in text
    assert "the server answered 451" in text


def test_who_read_a_notification_is_told() -> None:
    decided = happened("notification_decided", event_id=NOTIFICATION, minutes_ago=9)
    assert "team:desk Read: Call back" in told(decided, happened("notification_read"))
    by_one = happened("notification_read", "notification_read { reader: 'agent-7' }")
    assert "agent-7 Read a notification" in told(by_one)
