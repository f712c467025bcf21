"""Expectations, inboxes, rules, mails and the reasons for them are readable, and tell the truth."""

from datetime import timedelta
from email.message import EmailMessage

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp

from libs.cli.rendering.expectations import expectations
from libs.cli.rendering.inbox import inbox
from libs.cli.rendering.lines import Line
from libs.cli.rendering.mail import mail
from libs.cli.rendering.rules import rules
from libs.cli.rendering.why import why
from tests.terminal import NOW, joined, shown
from touchline.events.v1 import decisions_pb2 as decisions
from touchline.events.v1 import event_pb2 as ev
from touchline.notification.v1 import notification_pb2 as notification
from touchline.notification.v1.notification_service_pb2 import ExplainNotificationResponse

WIDTHS = pytest.mark.parametrize("width", [60, 80, 120, 200])
INES = "ab" * 16
NAMES = {INES: "Ines Falk"}
ID = "019be2a0-7c00-8000-8000-000000000001"
LINE = Line("●", "cyan", "SMS", who="Ines", text="Does the kiln have to be unplugged first?")

DECIDED = decisions.NotificationDecided(
    rule="promise-broken",
    rule_version=2,
    recipient=decisions.NotificationRecipient(reference="team:service"),
    kind=decisions.NOTIFICATION_KIND_TASK,
    title="Call Ines Falk",
    text="Not kept: an answer",
    reason="The deadline passed",
    considered=[
        decisions.ConsideredChannel(
            channel=decisions.NOTIFICATION_CHANNEL_INBOX,
            verdict=decisions.CHANNEL_VERDICT_CHOSEN,
        ),
        decisions.ConsideredChannel(
            channel=decisions.NOTIFICATION_CHANNEL_EMAIL,
            verdict=decisions.CHANNEL_VERDICT_CHOSEN,
            reason="an address is known",
        ),
        decisions.ConsideredChannel(
            channel=decisions.NOTIFICATION_CHANNEL_WEBHOOK,
            verdict=decisions.CHANNEL_VERDICT_SUPPRESSED,
            reason="no consent",
        ),
    ],
)


def at(**apart: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(NOW + timedelta(**apart))
    return stamp


def expectation(**said: object) -> notification.Expectation:
    usual = {
        "expectation_id": "unplug-K-3391",
        "profile_id": INES,
        "promise": "An answer",
        "due_at": at(hours=3),
        "state": notification.EXPECTATION_STATE_OPEN,
        "team": "team:service",
    }
    return notification.Expectation(**{**usual, **said})  # type: ignore[arg-type]


def item(**said: object) -> notification.InboxItem:
    usual = {
        "notification_id": ID,
        "decided_at": at(minutes=-3),
        "notification": DECIDED,
        "profile_id": INES,
    }
    return notification.InboxItem(**{**usual, **said})  # type: ignore[arg-type]


@WIDTHS
def test_an_expectation_shows_what_until_when_whose_and_for_whom(width: int) -> None:
    text = joined(shown(expectations([expectation(promised_by="agent-7")], NAMES, now=NOW), width))
    for part in (
        "today 18:20",
        "in 3 h",
        "□ open",
        "An answer",
        "Ines Falk · team:service · agent-7",
        "unplug-K-3391",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("said", "shown_as"),
    [
        ({"due_at": at(minutes=-2)}, "□ overdue"),
        ({"state": notification.EXPECTATION_STATE_KEPT}, "✓ kept"),
        (
            {"state": notification.EXPECTATION_STATE_BROKEN, "reason": "Nobody came."},
            "Nobody came.",
        ),
        ({"state": notification.EXPECTATION_STATE_WITHDRAWN}, "withdrawn"),
        ({"promise": ""}, "Erased at the customer's wish"),
        ({"rule": "public-complaint"}, "rule public-complaint"),
        ({"due_at": at(seconds=40)}, "in 40 s"),
    ],
)
def test_an_expectation_shows_how_it_stands(said: dict[str, object], shown_as: str) -> None:
    assert shown_as in joined(shown(expectations([expectation(**said)], NAMES, now=NOW)))


@WIDTHS
def test_an_inbox_shows_what_was_said_why_and_by_which_rule(width: int) -> None:
    text = joined(shown(inbox("team:service", [item()], NAMES, unread=1, now=NOW), width))
    assert "team:service 1 unread" in text
    for part in ("today 15:17", "□ task", "Call Ines Falk", "Not kept: an answer"):
        assert part in text
    assert "The deadline passed" in text
    assert "Ines Falk · rule promise-broken v2" in text
    assert ID in text


def test_what_was_read_and_what_was_erased_says_so() -> None:
    erased = decisions.NotificationDecided(rule="promise-broken", rule_version=2)
    listed = [item(read_at=at(minutes=-1)), item(notification=erased)]
    text = joined(shown(inbox("agent-7", listed, {}, unread=0, now=NOW)))
    assert "agent-7 all read" in text
    assert "read today 15:19" in text
    assert "▲ alert Erased at the customer's wish" in text
    assert "nothing yet" in shown(inbox("agent-7", [], {}, unread=0, now=NOW))


RULE = ParseDict(
    {
        "name": "promise-broken",
        "on": {"types": ["EVENT_TYPE_EXPECTATION_RESOLVED"]},
        "window": "3600s",
        "let": [{"name": "late", "expression": "now - event.at"}],
        "condition": "event.fact.outcome == 'broken'",
        "notices": [
            {
                "reference": "team:service",
                "title": "Call",
                "channels": ["NOTIFICATION_CHANNEL_EMAIL"],
            },
            {"customer": True, "title": "Sorry"},
        ],
    },
    notification.RuleDefinition(),
)
OFF = ParseDict(
    {
        "name": "public-complaint",
        "disabled": True,
        "on": {
            "types": ["EVENT_TYPE_INTERACTION"],
            "channels": ["CHANNEL_SOCIAL", "CHANNEL_EMAIL"],
            "directions": ["DIRECTION_INBOUND"],
            "visibilities": ["VISIBILITY_PUBLIC"],
        },
        "expect": {"promise": "An answer", "within": "3600s", "team": "team:care", "hours": {}},
    },
    notification.RuleDefinition(),
)


@WIDTHS
def test_a_rule_shows_what_it_looks_at_when_it_acts_and_what_it_does(width: int) -> None:
    listed = [
        notification.Rule(definition=RULE, version=3, published_at=at(), published_by="ada"),
        notification.Rule(definition=OFF, version=1, published_at=at(), published_by="ada"),
    ]
    text = shown(rules(listed, now=NOW), width)
    assert "v3 · today" in text
    if width >= 120:
        for part in (
            "expectation resolved",
            "with the 1 h before",
            "late = now - event.at",
            "event.fact.outcome == 'broken'",
            "tells team:service by email",
            "tells the customer by inbox",
            "interaction · social or email · inbound · public",
            "expects of team:care within 1 h of business time",
        ):
            assert part in text
        assert " off" in text


def test_without_rules_it_says_that_nobody_is_told() -> None:
    assert "nobody is told" in shown(rules([], now=NOW))


def explained(**said: object) -> ExplainNotificationResponse:
    event = ev.Event(event_id=ID, occurred_at=at(minutes=-48))
    return ExplainNotificationResponse(event=event, **said)  # type: ignore[arg-type]


@WIDTHS
def test_why_shows_the_event_the_rules_the_channels_and_the_attempts(width: int) -> None:
    matched = notification.RuleExplanation(
        rule="promise-broken",
        rule_version=2,
        verdict=notification.RULE_VERDICT_MATCHED,
        reason="The deadline passed",
        condition="event.fact.outcome == 'broken'",
        values=[decisions.NamedValue(name="who", value="Ines Falk")],
    )
    email = decisions.NOTIFICATION_CHANNEL_EMAIL
    told = notification.NotificationExplanation(
        notification_id=ID,
        decided_at=at(),
        notification=DECIDED,
        read_at=at(),
        attempts=[
            decisions.DeliveryAttempted(
                channel=email,
                outcome=decisions.DELIVERY_OUTCOME_DEFERRED,
                attempt=1,
                reason="421 later",
                retry_at=at(seconds=30),
            ),
            decisions.DeliveryAttempted(
                channel=email,
                outcome=decisions.DELIVERY_OUTCOME_SENT,
                attempt=2,
                possibly_repeated=True,
            ),
        ],
    )
    text = joined(
        shown(why(explained(rules=[matched], notifications=[told]), LINE, now=NOW), width)
    )
    for part in (
        "● SMS Does the kiln have to be unplugged first?",
        f"today 14:32 · Ines · {ID}",
        "✓ matched promise-broken v2",
        "event.fact.outcome == 'broken'",
        "who = Ines Falk",
        "□ task Call Ines Falk",
        "team:service · decided today 15:20 · rule promise-broken · read today 15:20",
        "inbox ✓ chosen",
        "email ✓ chosen an address is known",
        "↻ deferred attempt 1 · 421 later · again in 30 s",
        "✓ sent attempt 2 · perhaps the second time",
        "suppressed no consent",
    ):
        assert part in text


def test_why_not_shows_which_condition_was_false_and_that_nobody_was_told() -> None:
    missed = notification.RuleExplanation(
        rule="public-complaint",
        rule_version=1,
        verdict=notification.RULE_VERDICT_NOT_MATCHED,
        reason="false: event.fact.intent == 'complaint'",
        condition="event.fact.intent == 'complaint'",
    )
    text = joined(shown(why(explained(rules=[missed]), LINE, now=NOW)))
    assert "not matched public-complaint v1 false: event.fact.intent == 'complaint'" in text
    assert text.count("event.fact.intent == 'complaint'") == 1
    assert "Nobody was told." in text
    assert "No rule looks at such an event." in shown(why(explained(), LINE, now=NOW))


def test_why_shows_a_delivery_that_waits() -> None:
    told = notification.NotificationExplanation(
        notification_id=ID,
        decided_at=at(),
        notification=DECIDED,
        deliveries=[
            notification.Delivery(
                channel=decisions.NOTIFICATION_CHANNEL_EMAIL,
                state=notification.DELIVERY_STATE_WAITING,
                due_at=at(minutes=5),
            )
        ],
    )
    assert "waits, due in 5 min" in shown(why(explained(notifications=[told]), LINE, now=NOW))


def test_a_mail_shows_its_headers_and_text_without_what_could_steer_a_terminal() -> None:
    message = EmailMessage()
    message["From"], message["To"] = "us@example.com", "service@example.com"
    message["Subject"] = "Call Ines Falk"
    message.set_content("Not kept: an answer\n\x1b[31mred\n")
    text = shown(mail(message), 120)
    for part in ("From", "us@example.com", "service@example.com", "Call Ines Falk", "Not kept"):
        assert part in text
    assert "\x1b" not in text
