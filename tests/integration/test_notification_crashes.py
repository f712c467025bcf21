"""kill -9 between decision, claim, send and record: nothing is lost, at most one repeat, marked."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest

from libs.embedded import Child, Process, start
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from tests.customers import new_email
from tests.peers import mail_server, receiver
from tests.ports import free_address
from tests.servers import SharedPostgres
from tests.services import Touchline, new_notifications, notification_environment
from tests.telling import Teller, chosen, told
from tests.waiting import until
from touchline.client import Client
from touchline.events.v1.decisions_pb2 import (
    DELIVERY_OUTCOME_FAILED,
    DELIVERY_OUTCOME_SENT,
    NOTIFICATION_CHANNEL_EMAIL,
    NOTIFICATION_CHANNEL_WEBHOOK,
)
from touchline.notification.v1 import notification_service_pb2 as api
from touchline.notification.v1.notification_pb2 import (
    DELIVERY_STATE_CLAIMED,
    DELIVERY_STATE_FAILED,
    DELIVERY_STATE_SENT,
)

ROOT = Path(__file__).parents[2]
WRITING = "LOCK TABLE outbox"
LOOKING = "LOCK TABLE notification_reads"
TAKING_IN = "SELECT FROM projection_checkpoints WHERE projection = 'deliveries' FOR UPDATE"
EMAIL, WEBHOOK = chosen(NOTIFICATION_CHANNEL_EMAIL), chosen(NOTIFICATION_CHANNEL_WEBHOOK)


@dataclass(slots=True)
class Mortal:
    """A notification service in a process of its own, that a test kills.

    Attributes:
        teller: Tells it, and asks it.
        environment: Its settings.
        database: A connection to its database, for what the test holds up.
        lines: All it logged.
    """

    teller: Teller
    environment: Mapping[str, str]
    database: asyncpg.Connection
    lines: list[str] = field(default_factory=list)
    starts: int = 0
    process: Process | None = None

    async def start(self) -> None:
        """Starts it, as if those killed before had died long ago: leases and claims ran out."""
        for statement in (
            "UPDATE projection_checkpoints SET leased_until = '-infinity'",
            "UPDATE outbox_sender SET leased_until = '-infinity'",
            "UPDATE deliveries SET claimed_until = '-infinity' WHERE state = 2",
        ):
            await self.database.execute(statement)
        self.starts += 1
        child = Child(
            name="notification",
            argv=(sys.executable, "-m", "services.notification"),
            env={**os.environ, **self.environment},
            cwd=ROOT,
            on_line=lambda _, line: self.lines.append(line),
        )
        self.process = await start(child, self._serves, within=30)
        # The client found nobody for a while; it does not wait now.
        calls = self.teller.client.notification
        await calls.ListRecipients(api.ListRecipientsRequest(), wait_for_ready=True)

    async def kill(self) -> None:
        """Ends it with SIGKILL, where it stands."""
        assert self.process is not None
        await self.process.kill()

    async def stop(self) -> None:
        """Ends it as SIGTERM does."""
        assert self.process is not None
        await self.process.stop()

    @asynccontextmanager
    async def held_up_by(self, lock: str) -> AsyncIterator[None]:
        """Holds a lock in its database until the block ends."""
        connection = await asyncpg.connect(self.environment["TOUCHLINE_DATABASE_URL"])
        try:
            async with connection.transaction():
                await connection.execute(lock)
                yield
        finally:
            await connection.close()

    async def _serves(self) -> bool:
        return sum("notification serves" in line for line in self.lines) == self.starts


@pytest.fixture
async def mortal(touchline: Touchline, servers: SharedPostgres) -> AsyncIterator[Mortal]:
    """The only notification service on its line, not yet started."""
    url = await new_notifications(servers)
    listen = free_address()
    places = touchline.ingestion.listen, touchline.profile.listen
    async with (
        mail_server() as mails,
        receiver() as hooks,
        connect_nats(touchline.nats.service_url, "tests") as nats,
        Client.connect(*places, notification=listen) as client,
    ):
        environment = notification_environment(
            touchline,
            url,
            {
                "TOUCHLINE_LISTEN": listen,
                "TOUCHLINE_SMTP_URL": mails.url,
                "TOUCHLINE_DELIVERY_TIMEOUT_SECONDS": "30",
            },
        )
        connection = await asyncpg.connect(url)
        teller = Teller(StoreClient(nats), client, mails, hooks, listen, url)
        one = Mortal(teller, environment, connection)
        yield one
        if one.process is not None:
            await one.process.kill()
        await connection.close()


async def test_nothing_is_lost_and_what_may_be_a_repeat_is_marked(mortal: Mortal) -> None:
    teller = mortal.teller
    await mortal.start()
    await teller.put("recorded", webhook_url=f"{teller.hooks.url}/recorded")
    for who in ("sending", "claimed", "decided"):
        await teller.put(who, email=f"{who}@example.com")
    teller.mails.holds.add("sending@example.com")

    async with mortal.held_up_by(WRITING):
        # It arrived and was answered, and no record of it can be written.
        recorded = await teller.tell(new_email(), told("recorded", WEBHOOK))
        await until(lambda: len(teller.hooks.of("/recorded")) == 1)
        # It arrived, and no answer came.
        sending = await teller.tell(new_email(), told("sending", EMAIL))
        await until(lambda: teller.mails.arrived == ["sending@example.com"])
        async with mortal.held_up_by(LOOKING):
            # It is claimed, and nothing was sent.
            claimed = await teller.tell(new_email(), told("claimed", EMAIL))
            await soon_claimed(mortal, claimed)
            async with mortal.held_up_by(TAKING_IN):
                # It is on the line, and nobody took it in.
                decided = await teller.tell(new_email(), told("decided", EMAIL))
                await mortal.kill()

    await mortal.start()
    one = await teller.ended(recorded)
    assert (one.state, one.attempts, one.possibly_repeated) == (DELIVERY_STATE_SENT, 2, True)
    assert len({hook.headers["webhook-id"] for hook in teller.hooks.of("/recorded")}) == 1
    assert len(teller.hooks.of("/recorded")) == 2
    one = await teller.ended(claimed)
    assert (one.state, one.attempts, one.possibly_repeated) == (DELIVERY_STATE_SENT, 2, True)
    assert teller.mails.arrived.count("claimed@example.com") == 1
    one = await teller.ended(decided)
    assert (one.state, one.attempts, one.possibly_repeated) == (DELIVERY_STATE_SENT, 1, False)
    assert teller.mails.arrived.count("decided@example.com") == 1
    (attempt,) = await teller.attempts(recorded, 1)
    assert (attempt.outcome, attempt.attempt) == (DELIVERY_OUTCOME_SENT, 2)
    assert attempt.possibly_repeated

    await until(lambda: teller.mails.arrived.count("sending@example.com") == 2)
    await mortal.kill()
    await mortal.start()
    one = await teller.ended(sending)
    assert (one.state, one.attempts, one.possibly_repeated) == (DELIVERY_STATE_FAILED, 3, True)
    assert one.reason == "2 attempts ended without a record; another could be a repeat"
    (attempt,) = await teller.attempts(sending, 1)
    assert (attempt.outcome, attempt.possibly_repeated) == (DELIVERY_OUTCOME_FAILED, True)
    assert teller.mails.arrived.count("sending@example.com") == 2

    teller.mails.slow_seconds = 0.3
    drained = await teller.tell(new_email(), told("decided", EMAIL))
    await until(lambda: teller.mails.arrived.count("decided@example.com") == 2)
    await mortal.stop()
    state = "SELECT state FROM deliveries WHERE notification_id = $1"
    assert await mortal.database.fetchval(state, drained) == DELIVERY_STATE_SENT
    assert not [line for line in mortal.lines if "@" in line or "Impossible" in line]


async def soon_claimed(mortal: Mortal, name: str) -> None:
    """Returns once somebody has hold of the delivery of a notification."""
    delivery = await mortal.teller.until(name, lambda one: one.state == DELIVERY_STATE_CLAIMED)
    assert delivery.attempts == 1
