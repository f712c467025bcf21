"""Emails and their outcomes, with a real mail server on the other side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from tests.customers import new_email
from tests.peers import MailServer, mail_server
from tests.servers import SharedPostgres
from tests.services import Touchline, new_notifications, notification_on
from tests.telling import Teller, chosen, told
from touchline.events.v1.decisions_pb2 import NOTIFICATION_CHANNEL_EMAIL
from touchline.notification.v1 import notification_service_pb2 as api
from touchline.notification.v1.notification_pb2 import (
    DELIVERY_STATE_FAILED,
    DELIVERY_STATE_SENT,
    Recipient,
)


@dataclass(frozen=True, slots=True)
class Telling:
    """A notification service, what tells it decisions, and the mail server it uses."""

    teller: Teller
    mails: MailServer


@pytest.fixture(scope="module")
async def telling(shared_touchline: Touchline, servers: SharedPostgres) -> AsyncIterator[Telling]:
    """A notification service beside the shared ones."""
    url = await new_notifications(servers)
    async with (
        mail_server() as mails,
        notification_on(shared_touchline, url, {"TOUCHLINE_SMTP_URL": mails.url}) as (_, client),
        connect_nats(shared_touchline.nats.service_url, "tests") as nats,
    ):
        yield Telling(Teller(StoreClient(nats), client), mails)


async def put(telling: Telling, reference: str, **reached: str) -> str:
    """Says where a recipient is reached; returns the secret of its webhooks."""
    answer = await telling.teller.client.notification.PutRecipient(
        api.PutRecipientRequest(recipient=Recipient(reference=reference, **reached))
    )
    return answer.webhook_secret


async def test_an_employee_is_told_by_email_why(telling: Telling) -> None:
    await put(telling, "agent-7", email="agent-7@example.com")
    name = await telling.teller.tell(
        new_email(), told("agent-7", chosen(NOTIFICATION_CHANNEL_EMAIL))
    )
    delivery = await telling.teller.ended(name)
    assert (delivery.state, delivery.attempts, delivery.possibly_repeated) == (
        DELIVERY_STATE_SENT,
        1,
        False,
    ), delivery
    (mail,) = telling.mails.to("agent-7@example.com")
    assert mail["Subject"] == "Impossible travel"
    assert mail["Message-ID"] == f"<{name}.email@localhost>"
    assert "5,837 km in 40 minutes" in mail.get_content()
    assert "speed: 8,755 km/h" in mail.get_content()
