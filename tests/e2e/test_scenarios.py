"""What companies want to be told of, told in events: from a gRPC call to an inbox and a mailbox.

The rules are those of examples/rules; each scenario has customers of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import pytest

from tests.customers import new_email, of, record, timeline
from tests.peers import MailServer
from tests.ruling import example
from tests.running import Installation
from touchline.client import Client
from touchline.events.v1 import decisions_pb2, event_pb2, facts_pb2, filter_pb2
from touchline.events.v1.identity_pb2 import Identity
from touchline.notification.v1 import notification_pb2
from touchline.notification.v1 import notification_service_pb2 as api
from touchline.uuid7 import uuid7

RULES: Final = ("impossible-travel", "public-complaint", "complaint-broken", "job-change")
NEW_YORK: Final = event_pb2.Location(latitude=40.7128, longitude=-74.0060, name="New York")
PARIS: Final = event_pb2.Location(latitude=48.8566, longitude=2.3522, name="Paris")
MINUTE: Final = timedelta(minutes=1)
ESCALATED: Final = "team:social-care-lead"
EVERY_STATE: Final = (
    notification_pb2.EXPECTATION_STATE_OPEN,
    notification_pb2.EXPECTATION_STATE_KEPT,
    notification_pb2.EXPECTATION_STATE_BROKEN,
    notification_pb2.EXPECTATION_STATE_WITHDRAWN,
)

Found = TypeVar("Found")


@pytest.fixture(scope="module")
async def client(running: Installation) -> AsyncIterator[Client]:
    """A caller of an installation in which the example rules are published."""
    async with running.client() as client:
        for name in RULES:
            rule = example(name)
            if rule.expect.HasField("hours"):
                always_open(rule.expect.hours)
            await publish(client, rule)
        yield client


async def publish(client: Client, rule: notification_pb2.RuleDefinition) -> None:
    request = api.PublishRuleRequest(definition=rule, published_by="test")
    await client.notification.PublishRule(request)


def always_open(hours: notification_pb2.BusinessHours) -> None:
    """Makes every hour a business hour: no outcome depends on the day of the test."""
    del hours.intervals[:]
    for weekday in range(1, 8):
        hours.intervals.add(weekday=weekday, **{"from": "00:00", "to": "24:00"})
    hours.holidays_country = ""


def happened(ago: timedelta, who: Identity, **fact: Any) -> event_pb2.Event:
    """An event that happened some time ago; what isn't a field of Event is its fact."""
    event = event_pb2.Event(event_id=uuid7(), source="test", identities=[who], **fact)
    event.occurred_at.FromDatetime(datetime.now(UTC) - ago)
    return event


def checked_in(ago: timedelta, who: Identity, at: event_pb2.Location) -> event_pb2.Event:
    where = event_pb2.Context(location=at)
    return happened(ago, who, checked_in=facts_pb2.CheckedIn(place="Hotel"), context=where)


def paid(ago: timedelta, who: Identity, at: event_pb2.Location) -> event_pb2.Event:
    fact = facts_pb2.PaymentAttempted(
        payment_id=uuid7(),
        amount=facts_pb2.Money(currency_code="EUR", micros=480_000_000),
        status=facts_pb2.PAYMENT_STATUS_APPROVED,
        method="card",
    )
    return happened(ago, who, payment_attempted=fact, context=event_pb2.Context(location=at))


def complaint(ago: timedelta, who: Identity, thread: str = "") -> event_pb2.Event:
    fact = facts_pb2.Interaction(
        channel=facts_pb2.CHANNEL_SOCIAL,
        network="mastodon",
        direction=facts_pb2.DIRECTION_INBOUND,
        visibility=facts_pb2.VISIBILITY_PUBLIC,
        intent="complaint",
        text="Third day without heating. Is anybody there?",
    )
    return happened(ago, who, interaction=fact, conversation_id=thread)


def answer(to: event_pb2.Event) -> event_pb2.Event:
    fact = facts_pb2.Interaction(
        channel=facts_pb2.CHANNEL_SOCIAL,
        network="mastodon",
        direction=facts_pb2.DIRECTION_OUTBOUND,
        visibility=facts_pb2.VISIBILITY_PUBLIC,
        text="We are. A technician comes at five.",
        in_reply_to=to.event_id,
    )
    return happened(timedelta(0), to.identities[0], interaction=fact)


async def inbox(client: Client, reference: str, about: event_pb2.Event) -> list[Any]:
    """What an inbox holds that follows from an event."""
    request = api.ListInboxRequest(inbox=api.Inbox(reference=reference), page_size=500)
    items = (await client.notification.ListInbox(request)).items
    return [item.notification for item in items if item.cause_event_id == about.event_id]


async def own_inbox(client: Client, who: Identity) -> list[Any]:
    """What a customer's inbox holds."""
    request = api.ListInboxRequest(inbox=api.Inbox(customer=of(who)))
    return [item.notification for item in (await client.notification.ListInbox(request)).items]


async def explained(
    client: Client, event: event_pb2.Event, after: int
) -> api.ExplainNotificationResponse:
    """Why somebody was told of an event, or nobody, once its position is folded."""
    request = api.ExplainNotificationRequest(event_id=event.event_id, after_position=after)
    return await client.notification.ExplainNotification(request)


async def expectations(
    client: Client,
    who: Identity,
    after: int,
    states: Sequence[notification_pb2.ExpectationState.ValueType] = EVERY_STATE,
) -> list[notification_pb2.Expectation]:
    """What a customer awaits, or awaited, once a position is folded."""
    request = api.ListExpectationsRequest(profile=of(who), states=states, after_position=after)
    return list((await client.notification.ListExpectations(request)).expectations)


async def on_the_line(client: Client, who: Identity, fact: str) -> list[Any]:
    """The facts of a kind on a customer's timeline, the latest first."""
    return [
        getattr(event, fact)
        for event in await timeline(client, who)
        if event.WhichOneof("fact") == fact
    ]


async def outcomes(
    client: Client,
    event: event_pb2.Event,
    after: int,
    outcome: decisions_pb2.DeliveryOutcome.ValueType,
) -> list[decisions_pb2.DeliveryAttempted]:
    """The attempts to deliver what follows from an event that ended so."""
    told = (await explained(client, event, after)).notifications
    return [one for each in told for one in each.attempts if one.outcome == outcome]


def consented(
    who: Identity, status: facts_pb2.ConsentStatus.ValueType, ago: timedelta = timedelta(0)
) -> event_pb2.Event:
    fact = facts_pb2.ConsentChanged(purpose="order news", status=status)
    return happened(ago, who, consent_changed=fact)


async def eventually(look: Callable[[], Awaitable[Found]], within: float = 90.0) -> Found:
    """What looking gives once it gives something."""
    async with asyncio.timeout(within):
        while not (found := await look()):  # noqa: ASYNC110 - a service has no event
            await asyncio.sleep(0.05)
        return found


async def test_new_york_and_paris_within_40_minutes_alert_the_customer_and_the_fraud_team(
    running: Installation, client: Client
) -> None:
    who = new_email()
    payment = paid(timedelta(0), who, PARIS)
    await record(client, checked_in(40 * MINUTE, who, NEW_YORK), payment)

    [alert] = await eventually(lambda: inbox(client, "team:fraud", payment))
    assert alert.kind == decisions_pb2.NOTIFICATION_KIND_TASK
    for told in ("5837 km", "40 min", "8756 km/h"):
        assert told in alert.reason
    [to_customer] = await eventually(lambda: own_inbox(client, who))
    assert to_customer.rule == alert.rule == "impossible-travel"

    why = await running.run("why", payment.event_id)
    assert why.code == 0
    assert "impossible-travel" in why.words
    assert "5837 km" in why.words


async def test_a_day_apart_nobody_is_alerted_and_why_says_why_not(
    running: Installation, client: Client
) -> None:
    who = new_email()
    payment = paid(timedelta(0), who, PARIS)
    last = await record(client, checked_in(timedelta(hours=23), who, NEW_YORK), payment)

    told = await explained(client, payment, last)
    [verdict] = [one for one in told.rules if one.rule == "impossible-travel"]
    assert verdict.verdict == notification_pb2.RULE_VERDICT_NOT_MATCHED
    assert await inbox(client, "team:fraud", payment) == []
    assert await own_inbox(client, who) == []
    why = await running.run("why", payment.event_id)
    assert "not" in why.words
    assert verdict.condition in why.words


async def test_a_public_complaint_answered_within_the_business_hour_is_kept(client: Client) -> None:
    who = new_email()
    post = complaint(5 * MINUTE, who)
    recorded = await record(client, post)
    [awaited] = await eventually(lambda: expectations(client, who, recorded))
    assert awaited.team == "team:social-care"
    assert awaited.state == notification_pb2.EXPECTATION_STATE_OPEN

    await record(client, answer(post))
    await eventually(
        lambda: expectations(client, who, recorded, [notification_pb2.EXPECTATION_STATE_KEPT])
    )
    [ended] = await eventually(lambda: on_the_line(client, who, "expectation_resolved"))
    assert ended.outcome == facts_pb2.EXPECTATION_OUTCOME_KEPT
    assert await inbox(client, ESCALATED, post) == []


async def test_a_public_complaint_that_nobody_answers_is_broken_and_escalated(
    client: Client,
) -> None:
    who = new_email()
    post = complaint(60 * MINUTE - timedelta(seconds=3), who)
    recorded = await record(client, post)
    [awaited] = await eventually(lambda: expectations(client, who, recorded))
    assert awaited.due_at.ToDatetime(UTC) == post.occurred_at.ToDatetime(UTC) + 60 * MINUTE

    [ended] = await eventually(lambda: on_the_line(client, who, "expectation_resolved"))
    assert ended.outcome == facts_pb2.EXPECTATION_OUTCOME_BROKEN
    [escalation] = await eventually(lambda: on_the_line(client, who, "notification_decided"))
    assert escalation.rule == "complaint-broken"
    assert escalation.recipient.reference == ESCALATED
    assert "social-care" in escalation.reason


async def test_three_known_contacts_change_jobs_and_the_accounts_owner_gets_three_tasks(
    client: Client,
) -> None:
    contacts = [new_email() for _ in range(3)]
    for who in contacts:
        known = {"account": "Globex", "account_owner": "agent-31"}
        await record(
            client,
            happened(30 * MINUTE, who, traits_observed=facts_pb2.TraitsObserved(traits=known)),
        )
    moved = facts_pb2.SignalObserved(kind="job_change", text="Left Globex for Initech.")
    changes = [happened(MINUTE, who, signal_observed=moved) for who in contacts]
    await record(client, *changes)
    for change in changes:
        [task] = await eventually(lambda change=change: inbox(client, "agent-31", change))  # type: ignore[misc]
        assert task.kind == decisions_pb2.NOTIFICATION_KIND_TASK
        assert "Globex" in task.reason


def order_news() -> notification_pb2.RuleDefinition:
    return notification_pb2.RuleDefinition(
        name="order-news",
        on=filter_pb2.EventFilter(types=[event_pb2.EVENT_TYPE_ORDER_CHANGED]),
        reason="The order changed",
        notices=[
            notification_pb2.Notice(
                customer=True,
                title="News of your order",
                channels=[decisions_pb2.NOTIFICATION_CHANNEL_EMAIL],
                purpose="order news",
            )
        ],
    )


async def test_consent_withdrawn_between_decision_and_delivery_nothing_is_sent_and_that_is_recorded(
    client: Client, mailbox: MailServer
) -> None:
    await publish(client, order_news())
    who = new_email()
    await record(client, consented(who, facts_pb2.CONSENT_STATUS_GRANTED, MINUTE))
    mailbox.refuses[who.value] = "451 Later, please"  # the decision stands, the delivery waits
    order = happened(MINUTE, who, order_changed=facts_pb2.OrderChanged(order_id=uuid7()))
    last = await record(client, order)
    deferred, suppressed, sent = (
        decisions_pb2.DELIVERY_OUTCOME_DEFERRED,
        decisions_pb2.DELIVERY_OUTCOME_SUPPRESSED,
        decisions_pb2.DELIVERY_OUTCOME_SENT,
    )
    await eventually(lambda: outcomes(client, order, last, deferred))
    await record(client, consented(who, facts_pb2.CONSENT_STATUS_WITHDRAWN))
    # The server refuses on: it might take what was under way when the consent was withdrawn.
    [told] = await eventually(lambda: outcomes(client, order, last, suppressed))
    assert "has not allowed order news since" in told.reason
    assert mailbox.to(who.value) == []
    assert not await outcomes(client, order, last, sent)


async def test_a_year_of_history_is_imported_and_nobody_is_told_anything(
    client: Client, mailbox: MailServer
) -> None:
    who = new_email()
    known = facts_pb2.TraitsObserved(traits={"account": "Initech", "account_owner": "agent-77"})
    year = [happened(timedelta(days=366), who, traits_observed=known)]
    for day in range(365, 0, -1):
        ago = timedelta(days=day)
        change = facts_pb2.SignalObserved(kind="job_change")
        year += [checked_in(ago, who, NEW_YORK), paid(ago - 40 * MINUTE, who, PARIS)]
        year += [complaint(ago, who), happened(ago, who, signal_observed=change)]
    # The last hours too: what is told late is the past, however young.
    year += [checked_in(40 * MINUTE, who, NEW_YORK), last := paid(timedelta(0), who, PARIS)]
    for event in year:
        event.historical = True
    end = await record(client, *year)
    # Whatever acts on events has seen these once it has acted on one after them.
    other = new_email()
    present = complaint(timedelta(0), other)
    recorded = await record(client, present)
    assert recorded > end
    await eventually(lambda: expectations(client, other, recorded))

    assert await own_inbox(client, who) == []
    assert await on_the_line(client, who, "notification_decided") == []
    assert await expectations(client, who, recorded) == []
    owner = api.ListInboxRequest(inbox=api.Inbox(reference="agent-77"))
    assert not (await client.notification.ListInbox(owner)).items
    assert mailbox.to(who.value) == []
    why = await explained(client, last, recorded)
    verdicts = {one.rule: one.verdict for one in why.rules}
    assert verdicts["impossible-travel"] == notification_pb2.RULE_VERDICT_PAST
