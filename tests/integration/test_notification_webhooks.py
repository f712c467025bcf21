"""Signed webhooks and what becomes of them, with a real receiver on the other side."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks import WebhookVerificationError

from services.notification.deliveries.outcomes import Message, SendError
from services.notification.deliveries.webhooks import Webhooks, webhook_session
from tests.customers import new_email
from tests.peers import receiver
from tests.telling import Teller, chosen, told
from touchline.events.v1.decisions_pb2 import (
    DELIVERY_OUTCOME_DEFERRED,
    NOTIFICATION_CHANNEL_WEBHOOK,
)
from touchline.failures import CallFailed, readable_failures
from touchline.notification.v1 import notification_service_pb2 as api
from touchline.notification.v1.notification_pb2 import (
    DELIVERY_STATE_FAILED,
    DELIVERY_STATE_SENT,
    Delivery,
)

WEBHOOK = chosen(NOTIFICATION_CHANNEL_WEBHOOK)
MESSAGE = Message("0190-1", "alert", "Title", "", "Why", (), "", "2026-03-01T12:00:00Z")
SECRET = "whsec_" + "A" * 43 + "="


async def sent(teller: Teller, reference: str) -> Delivery:
    """What becomes of a webhook to a recipient."""
    name = await teller.tell(new_email(), told(reference, WEBHOOK))
    return await teller.ended(name)


async def test_a_webhook_says_what_and_why_and_is_signed(teller: Teller) -> None:
    secret = await teller.put("team:fraud", webhook_url=f"{teller.hooks.url}/fraud")
    delivery = await sent(teller, "team:fraud")
    assert delivery.state == DELIVERY_STATE_SENT, delivery
    (hook,) = teller.hooks.of("/fraud")
    content = hook.verified(secret)
    assert content["notification_id"] == hook.headers["webhook-id"] == delivery.notification_id
    assert content["title"] == "Impossible travel"
    assert content["reason"] == "5,837 km in 40 minutes"
    assert content["values"] == {"speed": "8,755 km/h"}
    assert content["kind"] == "alert"
    again = await teller.put("team:other", webhook_url=f"{teller.hooks.url}/other")
    assert again != secret
    with pytest.raises(WebhookVerificationError):
        hook.verified(again)


async def test_the_secret_of_a_recipient_stays_the_same(teller: Teller) -> None:
    first = await teller.put("team:a", webhook_url=f"{teller.hooks.url}/a")
    assert await teller.put("team:a", webhook_url=f"{teller.hooks.url}/b") == first
    assert await teller.put("team:a") == ""
    listed = await teller.client.notification.ListRecipients(api.ListRecipientsRequest())
    assert [one.webhook_url for one in listed.recipients if one.reference == "team:a"] == [""]


async def test_busy_and_broken_receivers_are_tried_again(teller: Teller) -> None:
    await teller.put("team:busy", webhook_url=f"{teller.hooks.url}/busy")
    teller.hooks.answers[:] = [429, 500, 408]
    delivery = await sent(teller, "team:busy")
    assert (delivery.state, delivery.attempts) == (DELIVERY_STATE_SENT, 4)
    attempts = await teller.attempts(delivery.notification_id, 4)
    assert [one.reason for one in attempts] == [
        "the receiver answered 429",
        "the receiver answered 500",
        "the receiver answered 408",
        "",
    ]
    assert {one.outcome for one in attempts[:3]} == {DELIVERY_OUTCOME_DEFERRED}
    assert len({hook.headers["webhook-id"] for hook in teller.hooks.of("/busy")}) == 1


async def test_a_rejection_is_final(teller: Teller) -> None:
    await teller.put("team:gone", webhook_url=f"{teller.hooks.url}/gone")
    teller.hooks.answers[:] = [410]
    delivery = await sent(teller, "team:gone")
    assert (delivery.state, delivery.attempts) == (DELIVERY_STATE_FAILED, 1)
    assert delivery.reason == "the receiver answered 410"


async def test_a_redirect_to_a_private_address_is_not_followed(teller: Teller) -> None:
    async with receiver() as private:
        await teller.put("team:moved", webhook_url=f"{teller.hooks.url}/moved")
        teller.hooks.answers[:] = [307]
        teller.hooks.location = f"{private.url}/secrets"
        delivery = await sent(teller, "team:moved")
        teller.hooks.location = ""
        assert delivery.state == DELIVERY_STATE_FAILED
        assert delivery.reason == ("the receiver redirects (307), and redirects are not followed")
        assert not private.hooks


async def test_a_slow_receiver_is_told_again_and_marked(teller: Teller) -> None:
    await teller.put("team:slow", webhook_url=f"{teller.hooks.url}/slow")
    teller.hooks.slow_seconds = 1.8
    name = await teller.tell(new_email(), told("team:slow", WEBHOOK))
    first = await teller.until(name, lambda one: bool(one.reason))
    teller.hooks.slow_seconds = 0.0
    assert first.reason == "the receiver did not answer in time"
    delivery = await teller.ended(name)
    assert delivery.state == DELIVERY_STATE_SENT
    assert delivery.possibly_repeated
    assert {hook.headers["webhook-id"] for hook in teller.hooks.of("/slow")} == {name}


async def test_nobody_listening_is_tried_again_without_a_mark(teller: Teller) -> None:
    async with receiver() as gone:
        await teller.put("team:away", webhook_url=f"{gone.url}/away")
    name = await teller.tell(new_email(), told("team:away", WEBHOOK))
    first = await teller.until(name, lambda one: bool(one.reason))
    assert first.reason == "the receiver can't be reached"
    await teller.put("team:away", webhook_url=f"{teller.hooks.url}/away")
    delivery = await teller.ended(name)
    assert (delivery.state, delivery.possibly_repeated) == (DELIVERY_STATE_SENT, False)


class Rebinding(AbstractResolver):
    """Says that every name leads to this machine, as a name server that lies does."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Lies."""
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        """Has nothing open."""


@pytest.mark.parametrize("host", ["hooks.example.com", "127.0.0.1", "[::ffff:127.0.0.1]"])
async def test_private_addresses_are_refused_when_connecting(teller: Teller, host: str) -> None:
    before = len(teller.hooks.hooks)
    port = teller.hooks.url.rpartition(":")[2]
    async with webhook_session(private=False, resolver=Rebinding()) as session:
        with pytest.raises(SendError) as refused:
            await Webhooks(session).send(f"http://{host}:{port}/in", SECRET, MESSAGE)
    assert refused.value.permanent
    assert "private address" in refused.value.reason
    assert len(teller.hooks.hooks) == before


@pytest.mark.parametrize(
    ("recipient", "field", "told_why"),
    [
        ({"reference": ""}, "recipient.reference", "1 to 128"),
        ({"reference": "a", "email": "nobody"}, "recipient.email", ""),
        ({"reference": "a", "webhook_url": "ftp://x.org"}, "recipient.webhook_url", "https"),
        (
            {"reference": "a", "webhook_url": "http://x.org"},
            "recipient.webhook_url",
            "this machine",
        ),
        ({"reference": "a", "webhook_url": "https://u:p@x.org"}, "recipient.webhook_url", "user"),
        ({"reference": "a", "webhook_url": "https://x.org/ b"}, "recipient.webhook_url", "spaces"),
        ({"reference": "a", "webhook_url": "https://"}, "recipient.webhook_url", ""),
    ],
)
async def test_recipients_that_can_not_be_reached_are_refused(
    teller: Teller, recipient: dict[str, Any], field: str, told_why: str
) -> None:
    with pytest.raises(CallFailed) as failed, readable_failures():
        await teller.put(**recipient)
    assert failed.value.reason == "INVALID_REQUEST"
    violations: Sequence[tuple[str, str]] = failed.value.violations
    assert [path for path, _ in violations] == [field]
    assert told_why in violations[0][1]
