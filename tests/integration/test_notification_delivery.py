"""Emails and what becomes of them, with a real mail server on the other side."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from services.notification.deliveries.attempting import Patience
from tests.customers import new_device, new_email, new_phone, record
from tests.given import stamp
from tests.servers import SharedPostgres
from tests.services import Touchline, new_notifications, notification_on
from tests.telling import Teller, chosen, consent, read, told, used
from touchline.events.v1.decisions_pb2 import (
    CHANNEL_VERDICT_DEFERRED,
    DELIVERY_OUTCOME_DEFERRED,
    DELIVERY_OUTCOME_FAILED,
    DELIVERY_OUTCOME_SENT,
    DELIVERY_OUTCOME_SUPPRESSED,
    NOTIFICATION_CHANNEL_EMAIL,
    NOTIFICATION_CHANNEL_INBOX,
    ConsideredChannel,
)
from touchline.events.v1.facts_pb2 import CONSENT_STATUS_GRANTED, CONSENT_STATUS_WITHDRAWN
from touchline.failures import CallFailed, readable_failures
from touchline.notification.v1 import notification_service_pb2 as api
from touchline.notification.v1.notification_pb2 import (
    DELIVERY_STATE_FAILED,
    DELIVERY_STATE_SENT,
    DELIVERY_STATE_SKIPPED,
    DELIVERY_STATE_SUPPRESSED,
    DELIVERY_STATE_WAITING,
)

EMAIL = chosen(NOTIFICATION_CHANNEL_EMAIL)


def later(seconds: float) -> list[ConsideredChannel]:
    """An email that waits, as for the end of quiet hours."""
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    channel = ConsideredChannel(
        channel=NOTIFICATION_CHANNEL_EMAIL, verdict=CHANNEL_VERDICT_DEFERRED
    )
    channel.not_before.FromDatetime(at)
    return [channel]


async def test_an_employee_is_told_by_email_why(teller: Teller) -> None:
    await teller.put("agent-1", email="agent-1@example.com")
    name = await teller.tell(new_email(), told("agent-1", EMAIL))
    delivery = await teller.ended(name)
    assert delivery.state == DELIVERY_STATE_SENT, delivery
    assert (delivery.attempts, delivery.possibly_repeated) == (1, False)
    (mail,) = teller.mails.to("agent-1@example.com")
    assert mail["Subject"] == "Impossible travel"
    assert mail["Message-ID"] == f"<{name}.email@localhost>"
    assert "5,837 km in 40 minutes" in mail.get_content()
    assert "speed: 8,755 km/h" in mail.get_content()
    (attempt,) = await teller.attempts(name, 1)
    assert (attempt.outcome, attempt.attempt) == (DELIVERY_OUTCOME_SENT, 1)
    assert (attempt.notification_id, attempt.reason) == (name, "")


async def test_customers_are_told_in_any_script_and_without_what_rules_computed(
    teller: Teller,
) -> None:
    customer = new_email()
    name = await teller.tell(customer, told("", EMAIL, title="Zahlung geprüft\n☂ 支払い"))
    assert (await teller.ended(name)).state == DELIVERY_STATE_SENT
    (mail,) = teller.mails.to(customer.value)
    assert mail["Subject"] == "Zahlung geprüft ☂ 支払い"
    assert "speed" not in mail.get_content()


async def test_what_fails_for_a_while_is_tried_again_and_the_line_tells_it(
    teller: Teller,
) -> None:
    await teller.put("agent-2", email="agent-2@example.com")
    teller.mails.answers[:] = ["451 Busy", "421 Closing"]
    name = await teller.tell(new_email(), told("agent-2", EMAIL))
    delivery = await teller.ended(name)
    assert (delivery.state, delivery.attempts) == (DELIVERY_STATE_SENT, 3)
    first, second, third = await teller.attempts(name, 3)
    assert [one.attempt for one in (first, second, third)] == [1, 2, 3]
    assert first.outcome == second.outcome == DELIVERY_OUTCOME_DEFERRED
    assert first.reason == "the mail server refused the email (451)"
    assert first.HasField("retry_at")
    assert third.outcome == DELIVERY_OUTCOME_SENT
    assert len(teller.mails.to("agent-2@example.com")) == 1


async def test_what_keeps_failing_becomes_a_dead_letter(teller: Teller) -> None:
    await teller.put("agent-3", email="agent-3@example.com")
    teller.mails.refuses["agent-3@example.com"] = "450 Mailbox busy"
    name = await teller.tell(new_email(), told("agent-3", EMAIL))
    delivery = await teller.ended(name)
    assert (delivery.state, delivery.attempts) == (DELIVERY_STATE_FAILED, Patience().attempts)
    assert delivery.reason == "the mail server refused the recipient (450); that was attempt 8"


async def test_a_refusal_is_final_until_somebody_asks_to_try_again(teller: Teller) -> None:
    await teller.put("agent-4", email="agent-4@example.com")
    teller.mails.refuses["agent-4@example.com"] = "550 No such user"
    name = await teller.tell(new_email(), told("agent-4", EMAIL))
    delivery = await teller.ended(name)
    assert (delivery.state, delivery.attempts) == (DELIVERY_STATE_FAILED, 1)
    assert delivery.reason == "the mail server refused the recipient (550)"
    del teller.mails.refuses["agent-4@example.com"]
    again = api.RetryDeliveryRequest(notification_id=name, channel=NOTIFICATION_CHANNEL_EMAIL)
    answer = await teller.client.notification.RetryDelivery(again)
    assert answer.delivery.state == DELIVERY_STATE_WAITING
    delivery = await teller.ended(name)
    assert (delivery.state, delivery.attempts) == (DELIVERY_STATE_SENT, 2)
    outcomes = [one.outcome for one in await teller.attempts(name, 2)]
    assert outcomes == [DELIVERY_OUTCOME_FAILED, DELIVERY_OUTCOME_SENT]
    with pytest.raises(CallFailed) as failed, readable_failures():
        await teller.client.notification.RetryDelivery(again)
    assert failed.value.reason == "INVALID_REQUEST"


async def test_an_email_that_may_have_arrived_is_marked_when_it_is_sent_again(
    teller: Teller,
) -> None:
    await teller.put("agent-5", email="agent-5@example.com")
    teller.mails.slow_seconds = 1.8
    name = await teller.tell(new_email(), told("agent-5", EMAIL))
    first = await teller.until(name, lambda one: one.attempts > 0 and bool(one.reason))
    teller.mails.slow_seconds = 0.0
    assert first.reason == "the mail server did not answer in time"
    delivery = await teller.ended(name)
    assert delivery.state == DELIVERY_STATE_SENT
    assert delivery.possibly_repeated
    assert (await teller.attempts(name, delivery.attempts))[-1].possibly_repeated
    ids = {mail["Message-ID"] for mail in teller.mails.to("agent-5@example.com")}
    assert ids == {f"<{name}.email@localhost>"}


async def test_consent_withdrawn_between_decision_and_delivery_suppresses_it_by_whichever_identity(
    teller: Teller,
) -> None:
    customer, phone = new_email(), new_phone()
    await record(teller.client, consent(customer, CONSENT_STATUS_GRANTED), used(customer, phone))
    name = await teller.tell(customer, told("", later(0.3), purpose="alerts"))
    withdrawal = consent(phone, CONSENT_STATUS_WITHDRAWN)
    await record(teller.client, withdrawal)
    delivery = await teller.ended(name)
    assert delivery.state == DELIVERY_STATE_SUPPRESSED
    since = f"{withdrawal.occurred_at.ToDatetime():%Y-%m-%d %H:%M} UTC"
    assert delivery.reason == (
        f"the customer has not allowed alerts since {since}, under another identity"
    )
    (attempt,) = await teller.attempts(name, 1)
    assert (attempt.outcome, attempt.reason) == (DELIVERY_OUTCOME_SUPPRESSED, delivery.reason)
    assert not teller.mails.to(customer.value)


async def test_consent_that_holds_lets_it_through(teller: Teller) -> None:
    customer = new_email()
    await record(teller.client, consent(customer, CONSENT_STATUS_GRANTED))
    name = await teller.tell(customer, told("", EMAIL, purpose="alerts"))
    assert (await teller.ended(name)).state == DELIVERY_STATE_SENT


async def test_what_was_read_in_the_inbox_is_not_sent_any_more(teller: Teller) -> None:
    await teller.put("agent-6", email="agent-6@example.com")
    channels = [*chosen(NOTIFICATION_CHANNEL_INBOX), *later(3600)]
    name = await teller.tell(new_email(), told("agent-6", channels))
    assert (await teller.deliveries(name))[0].state == DELIVERY_STATE_WAITING
    await read(teller, name)
    delivery = await teller.ended(name)
    assert (delivery.state, delivery.reason) == (
        DELIVERY_STATE_SUPPRESSED,
        "it was read already",
    )


async def test_what_is_too_old_is_not_sent(teller: Teller) -> None:
    await teller.put("agent-7", email="agent-7@example.com")
    old = told("agent-7", EMAIL)
    old.expires_at.CopyFrom(stamp("2026-01-01 00:00"))
    delivery = await teller.ended(await teller.tell(new_email(), old))
    assert (delivery.state, delivery.reason) == (DELIVERY_STATE_SUPPRESSED, "it is too old")
    assert not teller.mails.to("agent-7@example.com")


async def test_whoever_has_no_address_is_skipped(teller: Teller) -> None:
    nobody = await teller.tell(new_email(), told("agent-unheard-of", EMAIL))
    assert (await teller.ended(nobody)).reason == "the recipient's email address is not known"
    device = await teller.tell(new_device(), told("", EMAIL))
    delivery = await teller.ended(device)
    assert delivery.state == DELIVERY_STATE_SKIPPED
    assert delivery.reason == "the customer's email address is not known"


async def test_deliveries_are_listed_by_state_page_by_page(teller: Teller) -> None:
    names = [await teller.tell(new_email(), told("agent-nowhere", EMAIL)) for _ in range(3)]
    for name in names:
        await teller.ended(name)
    request = api.ListDeliveriesRequest(states=[DELIVERY_STATE_SKIPPED], page_size=2)
    first = await teller.client.notification.ListDeliveries(request)
    request.page_token = first.next_page_token
    second = await teller.client.notification.ListDeliveries(request)
    listed = [one.notification_id for one in (*first.deliveries, *second.deliveries)]
    assert listed[:3] == names[::-1]
    assert all(one.state == DELIVERY_STATE_SKIPPED for one in second.deliveries)


async def test_a_service_that_starts_anew_sends_nothing_again(
    teller: Teller, shared_touchline: Touchline, servers: SharedPostgres
) -> None:
    customer = new_email()
    name = await teller.tell(customer, told("", EMAIL))
    before = await teller.ended(name)
    await teller.attempts(name, 1)
    url = await new_notifications(servers)
    environment = {"TOUCHLINE_SMTP_URL": teller.mails.url}
    async with notification_on(shared_touchline, url, environment) as (service, client):
        anew = Teller(teller.store, client, teller.mails, teller.hooks, service.listen, url)
        head = await teller.store.head()
        anew.last_position = head.position
        assert await anew.ended(name) == before
        listed = await client.notification.ListDeliveries(
            api.ListDeliveriesRequest(page_size=500, after_position=head.position)
        )
    known = await teller.client.notification.ListDeliveries(
        api.ListDeliveriesRequest(page_size=500)
    )
    assert list(listed.deliveries) == list(known.deliveries)
    assert len(teller.mails.to(customer.value)) == 1
    for table in ("notifications", "notification_reads", "delivery_attempts"):
        assert await rows_of(url, table) == await rows_of(teller.url, table)


async def rows_of(url: str, table: str) -> list[str]:
    """The rows of a table as text, in order."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(f"SELECT t::text AS row FROM {table} t ORDER BY 1")
    finally:
        await connection.close()
    return [row["row"] for row in rows]
