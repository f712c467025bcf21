"""Rules on real servers: published, deciding as events come, and explained."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest
from google.protobuf.json_format import MessageToDict

from services.profile.domain import Touch
from tests.customers import new_email, new_phone, profile_id, record, told
from tests.given import (
    community_post,
    consent,
    email,
    note,
    order,
    outcome,
    public_post,
    retraction,
    signal,
    touch,
    traits,
)
from tests.ruling import CUSTOMER, TEAM, a_rule, example, notice
from tests.servers import SharedPostgres, start_nats
from tests.services import (
    Service,
    Touchline,
    new_notifications,
    new_stores,
    notification_on,
    touchline_on,
)
from touchline.client import Client
from touchline.events.v1.decisions_pb2 import (
    CHANNEL_VERDICT_CHOSEN,
    CHANNEL_VERDICT_SUPPRESSED,
)
from touchline.events.v1.event_pb2 import EVENT_TYPE_EXPECTATION_SET, Context, Location
from touchline.events.v1.facts_pb2 import CheckedIn, PaymentAttempted
from touchline.events.v1.identity_pb2 import Identity
from touchline.failures import CallFailed, readable_failures
from touchline.notification.v1 import notification_service_pb2 as api
from touchline.notification.v1.notification_pb2 import (
    RULE_VERDICT_FAILED,
    RULE_VERDICT_MATCHED,
    RULE_VERDICT_NOT_CONCERNED,
    RULE_VERDICT_NOT_MATCHED,
    RULE_VERDICT_PAST,
    RULE_VERDICT_STOPPED,
    RuleDefinition,
    RuleExplanation,
)

BEGAN = datetime.now(UTC)
NEW_YORK = Context(location=Location(latitude=40.7128, longitude=-74.006, name="New York"))
PARIS = Context(location=Location(latitude=48.8566, longitude=2.3522, name="Paris"))


class Desk:
    """Publishes rules, records touches of now, and asks why."""

    def __init__(self, client: Client, service: Service, touchline: Touchline, url: str) -> None:
        self.client, self.service, self.touchline, self.url = client, service, touchline, url
        self.published = 0

    async def publish(self, definition: RuleDefinition, expected: int = 0) -> int:
        """Publishes a version, and returns it."""
        answer = await self.client.notification.PublishRule(
            api.PublishRuleRequest(
                definition=definition, expected_version=expected, published_by="agent-1"
            )
        )
        self.published = answer.position
        return answer.version

    async def record(self, one: Touch, *identities: Identity) -> tuple[str, int]:
        """Records a touch, and returns its event id and its position."""
        event = told(one, *identities)
        event.event_id = str(uuid4())
        return event.event_id, await record(self.client, event)

    async def why(
        self, event: tuple[str, int], *, decided: int = 0
    ) -> api.ExplainNotificationResponse:
        """Explains an event, once so many notifications follow from it."""
        event_id, position = event
        request = api.ExplainNotificationRequest(event_id=event_id, after_position=position)
        while True:
            found = await self.client.notification.ExplainNotification(request)
            assert len(found.notifications) <= decided
            if len(found.notifications) == decided:
                return found

    async def execute(self, statement: str, *values: object) -> None:
        """Runs a statement in the service's database."""
        connection = await asyncpg.connect(self.url)
        await connection.execute(statement, *values)
        await connection.close()

    async def last_of_two_expectations(self) -> tuple[str, int]:
        """The event id and position of the second expectation that was ever set."""
        connection = await asyncpg.connect(self.url)
        try:
            while True:
                rows = await connection.fetch(
                    "SELECT event_id, position FROM timeline WHERE type = $1 ORDER BY position",
                    EVENT_TYPE_EXPECTATION_SET,
                )
                if len(rows) > 1:
                    return str(rows[1]["event_id"]), rows[1]["position"]
        finally:
            await connection.close()


@pytest.fixture(scope="module")
async def desk(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Desk]:
    """A Touchline of its own: rules act on every customer of a tenant."""
    nats = await start_nats(tmp_path_factory.mktemp("nats"))
    url = await new_notifications(servers)
    async with (
        touchline_on(await new_stores(servers), nats) as touchline,
        notification_on(touchline, url) as (service, client),
    ):
        yield Desk(client, service, touchline, url)
    await nats.stop()


def ago(**time: float) -> str:
    """A time before these tests began, as tests write it."""
    return f"{BEGAN - timedelta(**time):%Y-%m-%d %H:%M:%S}"


def check_in(time: str) -> Touch:
    return touch(time, context=NEW_YORK, checked_in=CheckedIn(place="Hotel Astor"))


def payment(time: str) -> Touch:
    return touch(time, context=PARIS, payment_attempted=PaymentAttempted(payment_id="P-7"))


def verdict_of(found: api.ExplainNotificationResponse, rule: str) -> RuleExplanation:
    (one,) = [one for one in found.rules if one.rule == rule]
    return one


async def test_a_card_paid_too_far_away_too_soon_alerts_customer_and_fraud_team(desk: Desk) -> None:
    await desk.publish(example("impossible-travel"))
    customer = new_email()
    await desk.record(check_in(ago(minutes=40)), customer)
    found = await desk.why(await desk.record(payment(ago()), customer), decided=2)
    reason = verdict_of(found, "impossible-travel").reason
    assert "5837 km apart, and 40 min lie between: that takes 875" in reason
    to_customer, to_team = (one.notification for one in found.notifications)
    assert to_customer.recipient.customer
    assert to_customer.title == "Was this you in Paris?"
    assert to_team.recipient.reference == "team:fraud"
    assert (to_team.text, to_team.rule_version) == (reason, 1)
    assert to_team.rules == ["impossible-travel"]
    assert [(one.channel, one.verdict) for one in to_team.considered] == [(1, 1), (2, 3), (3, 3)]
    assert {one.name for one in to_team.values} == {
        "placed",
        "before",
        "distance",
        "apart",
        "speed",
    }
    named = await desk.client.notification.ExplainNotification(
        api.ExplainNotificationRequest(notification_id=found.notifications[0].notification_id)
    )
    assert named.event == found.event
    assert named.event.payment_attempted.payment_id == "P-7"


async def test_a_day_apart_nothing_and_why_says_why_not(desk: Desk) -> None:
    customer = new_email()
    await desk.record(check_in(ago(hours=24)), customer)
    found = await desk.why(await desk.record(payment(ago()), customer))
    why = verdict_of(found, "impossible-travel")
    assert why.verdict == RULE_VERDICT_NOT_MATCHED
    assert why.reason == "speed > 1000.0 is false: speed is 243.22"
    assert why.condition.endswith("speed > 1000.0")
    assert {one.name: one.value for one in why.values}["distance"] == "5837.25"


async def test_three_changed_jobs_are_three_tasks_for_the_accounts_owner(desk: Desk) -> None:
    await desk.publish(example("job-change"))
    causes = []
    for name in ("Ana", "Ben", "Cleo"):
        mail, phone = new_email(), new_phone()
        await desk.record(traits(ago(days=90), {"name": name, "account_owner": "agent-7"}), mail)
        await desk.record(email(ago(days=3)), phone, mail)  # the phone is the same person's
        causes.append(
            (name, await desk.record(signal(ago(), "job_change", "Now at Umbrella"), phone))
        )
    for name, cause in causes:
        (task,) = (await desk.why(cause, decided=1)).notifications
        assert task.notification.recipient.reference == "agent-7"
        assert task.notification.kind == 2
        assert task.notification.reason == f"{name} changed jobs: Now at Umbrella"
    inbox = api.Inbox(reference="agent-7")
    listed = await desk.client.notification.ListInbox(api.ListInboxRequest(inbox=inbox))
    assert [item.notification.title for item in listed.items] == [
        f"Call {name}: a new job" for name in ("Cleo", "Ben", "Ana")
    ]


async def test_nobody_is_told_of_the_past_and_why_says_so(desk: Desk) -> None:
    customer = new_email()
    await desk.record(traits(ago(days=90), {"account_owner": "agent-8"}), customer)
    imported = await desk.record(signal(ago(), "job_change", ""), customer)
    history = signal(ago(minutes=1), "job_change")
    history.event.historical = True
    for one, said in (
        (history, "it was recorded as history, and nothing of the past acts"),
        (signal(ago(days=2), "job_change"), "it was 2 d "),
    ):
        why = verdict_of(await desk.why(await desk.record(one, customer)), "job-change")
        assert why.verdict == RULE_VERDICT_PAST
        assert why.reason.startswith(said)
    assert len((await desk.why(imported, decided=1)).notifications) == 1


async def test_a_match_that_the_rules_came_to_too_late_says_so(desk: Desk) -> None:
    late = a_rule("community_posted", name="late", max_age="2s", notices=[notice(TEAM)])
    await desk.publish(late)
    first = await desk.record(community_post(ago()), new_email())
    assert verdict_of(await desk.why(first), "late").verdict == RULE_VERDICT_PAST
    await desk.service.stop()
    occurred = datetime.now(UTC)
    post = community_post(f"{occurred:%Y-%m-%d %H:%M:%S}")
    post.event.occurred_at.FromDatetime(occurred)
    event = await desk.record(post, new_email())
    await asyncio.sleep(2 - (datetime.now(UTC) - occurred).total_seconds())
    await desk.service.start()
    why = verdict_of(await desk.why(event), "late")
    assert why.verdict == RULE_VERDICT_MATCHED
    assert why.reason == (
        "because (no decision is on the line: "
        "most likely the rules came to this event more than 2 s after it occurred)"
    )


async def test_what_became_of_a_decision_that_is_not_on_the_line_is_said(desk: Desk) -> None:
    said = {"condition": "recent.size() == 0", "window": "60s", "notices": [notice(TEAM)]}
    await desk.publish(a_rule("order_changed", name="held", **said))
    event = await desk.record(order(ago(), "O-7"), new_email())
    (decided,) = (await desk.why(event, decided=1)).notifications
    for table, name in (("timeline", "event_id"), ("notifications", "notification_id")):
        await desk.execute(f"DELETE FROM {table} WHERE {name} = $1", decided.notification_id)
    add = (
        "INSERT INTO outbox (reactor, tenant, event_id, sealed, traceparent, state, due_at) "
        "VALUES ('rules', 'default', $1, '', '', $2, 'infinity')"
    )
    for state, why in (
        ("", "the decision is on its way, or the condition became true when more iden"),
        ("waiting", "the decision waits to be recorded"),
        ("dead", "the store refused the decision, and the outbox has the reason"),
    ):
        if state:
            await desk.execute(add, decided.notification_id, state)
        reason = verdict_of(await desk.why(event), "held").reason
        assert reason.startswith(f"because (no decision is on the line: {why}")
        await desk.execute("DELETE FROM outbox WHERE event_id = $1", decided.notification_id)


async def test_a_rule_that_triggers_itself_is_stopped_and_says_so(desk: Desk) -> None:
    expect = {"promise": "Once more", "within": "3600s", "team": "team:care"}
    await desk.publish(a_rule("expectation_set", name="loop", expect=expect))
    customer = new_email()
    await desk.record(
        touch(
            ago(),
            expectation_set={
                "expectation_id": str(uuid4()),
                "promise": "A call",
                "due_at": datetime.now(UTC),
            },
        ),
        customer,
    )
    found = await desk.why(await desk.last_of_two_expectations())
    assert found.event.expectation_set.promise == "Once more"
    assert found.event.expectation_set.rules == ["loop"]
    assert found.event.expectation_set.answers == found.event.causation_id
    why = verdict_of(found, "loop")
    assert why.verdict == RULE_VERDICT_STOPPED
    assert "it would trigger itself" in why.reason


async def test_a_broken_expectation_escalates_with_the_rules_that_led_to_it(desk: Desk) -> None:
    await desk.publish(example("complaint-broken"))
    broken = outcome(ago(), str(uuid4()), "broken")
    broken.event.expectation_resolved.rules.append("public-complaint")
    broken.event.expectation_resolved.promise = "An answer"
    broken.event.expectation_resolved.team = "team:social-care"
    (told_lead,) = (await desk.why(await desk.record(broken, new_email()), decided=1)).notifications
    assert told_lead.notification.rules == ["public-complaint", "complaint-broken"]
    assert told_lead.notification.reason == "team:social-care did not keep: An answer"


async def test_a_rule_that_fails_on_an_event_does_not_stop_the_others(desk: Desk) -> None:
    bad = a_rule("note_added", name="bad", condition="recent[0].type == 'x'", window="60s")
    await desk.publish(bad)
    await desk.publish(a_rule("note_added", name="good", notices=[notice(TEAM)]))
    found = await desk.why(await desk.record(note(ago(), "Hm"), new_email()), decided=1)
    assert verdict_of(found, "bad").verdict == RULE_VERDICT_FAILED
    assert verdict_of(found, "good").verdict == RULE_VERDICT_MATCHED
    assert [one.rule for one in found.rules] == ["good", "bad"]


async def test_without_consent_the_decision_says_suppressed(desk: Desk) -> None:
    channels = ["NOTIFICATION_CHANNEL_INBOX", "NOTIFICATION_CHANNEL_EMAIL"]
    told_customer = notice(CUSTOMER, purpose="news", channels=channels)
    await desk.publish(a_rule("product_used", name="tips", notices=[told_customer]))
    used = touch(ago(), product_used={"product": "app"})
    customer = new_email()
    verdicts = []
    for change in (None, ("granted", 5), ("withdrawn", 4)):
        if change:
            await desk.record(consent(ago(minutes=change[1]), "news", change[0]), customer)
        (one,) = (await desk.why(await desk.record(used, customer), decided=1)).notifications
        verdicts.append([channel.verdict for channel in one.notification.considered])
    # Granted, the email is skipped: this service has no mail server.
    assert verdicts == [[4, 4], [1, 3], [4, 4]]


async def test_an_avoided_channel_is_suppressed_with_the_reason_and_the_inbox_is_used(
    desk: Desk,
) -> None:
    channels = ["NOTIFICATION_CHANNEL_INBOX", "NOTIFICATION_CHANNEL_EMAIL"]
    await desk.publish(
        a_rule("product_used", name="hints", notices=[notice(CUSTOMER, channels=channels)])
    )
    address, phone, at = new_email(), new_phone(), ago(minutes=5)
    avoids = {"channel": "CHANNEL_EMAIL", "status": "PREFERENCE_STATUS_AVOIDED"}
    await desk.record(touch(at, preference_changed=avoids), address)
    used = touch(ago(), product_used={"product": "app"})
    found = await desk.why(await desk.record(used, phone, address), decided=2)
    (one,) = [each for each in found.notifications if each.notification.rule == "hints"]
    inbox, email = one.notification.considered
    assert (inbox.verdict, email.verdict) == (
        CHANNEL_VERDICT_CHOSEN,
        CHANNEL_VERDICT_SUPPRESSED,
    )
    assert email.reason == (
        f"the customer has preferred not to be told anything by email since {at[:16]} UTC, "
        "under another identity"
    )


async def test_what_was_retracted_is_not_recent(desk: Desk) -> None:
    counting = a_rule("case_changed", name="count", window="3600s", reason="{{ recent.size() }}")
    await desk.publish(counting)
    customer = new_email()
    case = touch(ago(), case_changed={"case_id": "c"})
    first_id, _ = await desk.record(email(ago(minutes=9)), customer)
    await desk.record(email(ago(minutes=8)), customer)
    before = await desk.record(case, customer)
    erratum = retraction(ago(), email(ago()))
    erratum.event.event_retracted.event_id = first_id
    await desk.record(erratum, customer)
    after = await desk.record(case, customer)
    assert verdict_of(await desk.why(after), "count").reason == "2"
    # As of the earlier event both emails counted, and still do.
    assert verdict_of(await desk.why(before), "count").reason == "2"


async def test_an_event_is_judged_by_the_rules_of_its_time(desk: Desk) -> None:
    customer, post = new_email(), public_post(ago())
    before = await desk.record(post, customer)
    on = {"types": ["EVENT_TYPE_INTERACTION"], "visibilities": ["VISIBILITY_PUBLIC"]}
    rule = a_rule(name="posts", reason="one", on=on)
    assert await desk.publish(rule) == 1
    between = await desk.record(post, customer)
    rule.reason = "two"
    assert await desk.publish(rule, 1) == 2
    after = await desk.record(post, customer)
    rule.disabled = True
    assert await desk.publish(rule, 2) == 3
    off = await desk.record(post, customer)
    assert [one.rule for one in (await desk.why(before)).rules] == []
    assert verdict_of(await desk.why(between), "posts").reason == "one"
    assert verdict_of(await desk.why(after), "posts").reason == "two"
    assert verdict_of(await desk.why(off), "posts").verdict == RULE_VERDICT_NOT_CONCERNED


async def test_rules_outlive_a_restart_and_their_latest_versions_are_listed(desk: Desk) -> None:
    await desk.service.restart()
    request = api.ListRulesRequest(after_position=desk.published)
    rules = (await desk.client.notification.ListRules(request)).rules
    listed = {one.definition.name: one for one in rules}
    assert (listed["posts"].version, listed["posts"].published_by) == (3, "agent-1")
    assert MessageToDict(listed["job-change"].definition) == MessageToDict(example("job-change"))
    found = await desk.why(await desk.record(note(ago(), "Again"), new_email()), decided=1)
    assert verdict_of(found, "good").verdict == RULE_VERDICT_MATCHED


async def test_a_stale_publish_is_refused_and_a_retry_is_not(desk: Desk) -> None:
    rule = a_rule("checked_in", name="stale", reason="one")
    assert [await desk.publish(rule), await desk.publish(rule)] == [1, 1]
    rule.reason = "two"
    for expected in (0, 2):
        with pytest.raises(CallFailed) as failed, readable_failures():
            await desk.publish(rule, expected)
        assert failed.value.reason == "STALE_VERSION"
        assert failed.value.metadata["version"] == "1"
    assert await desk.publish(rule, 1) == 2


async def test_what_is_wrong_with_a_rule_is_said_by_field(desk: Desk) -> None:
    rule = a_rule(condition="event.sauce == 'x'", notices=[{"title": "{{ nobody }}"}])
    with pytest.raises(CallFailed) as failed, readable_failures():
        await desk.publish(rule)
    assert failed.value.reason == "INVALID_REQUEST"
    assert [path for path, _ in failed.value.violations] == [
        "definition.notices[0]",
        "definition.condition",
        "definition.notices[0].title",
    ]


async def test_rules_of_one_tenant_are_none_of_another(desk: Desk) -> None:
    async with desk.touchline.client_of("acme") as acme:
        event = told(note(ago(), "Hm"), new_email())
        event.event_id = str(uuid4())
        position = await record(acme, event)
    async with Client.connect(
        desk.touchline.ingestion.listen,
        tenant="acme",
        notification=desk.service.listen,
    ) as acme:
        found = await acme.notification.ExplainNotification(
            api.ExplainNotificationRequest(event_id=event.event_id, after_position=position)
        )
        assert (len(found.rules), len(found.notifications)) == (0, 0)
        assert (await acme.notification.ListRules(api.ListRulesRequest())).rules == []
    with pytest.raises(CallFailed) as failed, readable_failures():
        await desk.why((event.event_id, position))
    assert failed.value.reason == "EVENT_NOT_FOUND"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({}, "INVALID_REQUEST"),
        ({"event_id": "7"}, "INVALID_REQUEST"),
        ({"event_id": "018f3c5e-7c1a-7d4e-8a3b-2f6d9c0e1a2b"}, "EVENT_NOT_FOUND"),
        ({"notification_id": "018f3c5e-7c1a-7d4e-8a3b-2f6d9c0e1a2b"}, "NOTIFICATION_NOT_FOUND"),
    ],
)
async def test_what_can_not_be_explained_is_said(
    desk: Desk, asked: dict[str, str], reason: str
) -> None:
    with pytest.raises(CallFailed) as failed, readable_failures():
        await desk.client.notification.ExplainNotification(
            api.ExplainNotificationRequest(**asked)  # type: ignore[arg-type]
        )
    assert failed.value.reason == reason


async def test_of_an_erased_customer_an_event_keeps_its_time_and_nothing_that_was_said(
    desk: Desk,
) -> None:
    customer, words = new_email(), "Shaken, not stirred"
    told_team = notice(TEAM, text="{{ event.fact.text }}")
    await desk.publish(a_rule("note_added", name="copies", notices=[told_team]))
    event = await desk.record(note(ago(), words), customer)
    before = await desk.why(event, decided=2)
    assert words.encode() in before.SerializeToString()
    key = bytes.fromhex(await profile_id(desk.client, customer, event[1]))
    erase = "DELETE FROM data_keys WHERE identity_key = $1"
    done = await desk.touchline.execute(desk.touchline.stores.events, erase, key)
    assert done == "DELETE 1"
    await desk.touchline.ingestion.restart()  # both remember keys
    await desk.service.restart()
    found = await desk.why(event, decided=2)
    assert (found.event.event_id, found.event.occurred_at) == (event[0], before.event.occurred_at)
    assert found.event.WhichOneof("fact") is None
    assert (list(found.event.identities), list(found.rules)) == ([], [])
    assert not any(one.HasField("notification") for one in found.notifications)
    for secret in (words, customer.value):
        assert secret.encode() not in found.SerializeToString()
