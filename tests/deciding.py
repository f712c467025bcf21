"""A reactor of tests, its outbox, and a sender, on a real store, feed and database."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from uuid import uuid4

import asyncpg

from libs.embedded import create_database, database_url_for, drop_database
from libs.eventstore.client import StoreClient
from libs.postgres.pool import open_pool
from libs.projection.checkpoints import LEASE
from libs.projection.opening import open_events
from libs.projection.outbox import Decision, Outbox, Sender
from libs.projection.projection import Connection, Recorded, Table
from libs.projection.runner import Runner
from libs.tasks import running
from tests.aggregates import Lent
from tests.projecting import build_ledger
from tests.servers import SharedPostgres
from tests.store import DEFAULT, IDENTITY_SECRET, email, records_of, said
from touchline.events.v1.event_pb2 import EVENT_TYPE_NOTE_ADDED, Event
from touchline.events.v1.facts_pb2 import NoteAdded
from touchline.events.v1.identity_pb2 import Identity
from touchline.ids import decision_id
from touchline.store.v1.store_pb2 import RecordedEvent

REACTOR = "ledger"
_AT_US = 1_700_000_000_000_000
_customers = count(1)


@dataclass(slots=True)
class Desk:
    """Where a reactor decides: its database and outbox, and the line that it follows.

    Attributes:
        lent: The line, and the store's client.
        url: Of the database.
        pool: Connections to it.
        customer: Whose events the reactor looks at; no other test has them.
        words: What its decisions say.
    """

    lent: Lent
    url: str
    pool: asyncpg.Pool
    customer: Identity
    outbox: Outbox
    words: str = "ring back"

    @property
    def store(self) -> StoreClient:
        """The store's API."""
        return self.lent.client

    async def says(self, text: str, traceparent: str = "") -> Event:
        """Records that the customer wrote an email."""
        event = said(text, who=[self.customer])
        copy = Event.FromString(event.SerializeToString())
        await self.lent.line.recorder.record(DEFAULT, [copy], traceparent)
        return event

    async def decide(self, *decisions: Event, tenant: str = "default") -> None:
        """Decides in a transaction of its own."""
        async with self.pool.acquire() as connection, connection.transaction():
            told = [Decision(tenant, decision, 1) for decision in decisions]
            await self.outbox.decide(connection, REACTOR, told)

    def note(self, text: str, number: int = 0) -> Event:
        """A decision about the customer."""
        event_id = decision_id(_AT_US, self.customer.value, str(number))
        event = said("", who=[self.customer], event_id=event_id)
        event.note_added.CopyFrom(NoteAdded(text=text))
        return event

    async def rows(self) -> list[asyncpg.Record]:
        """The outbox."""
        return await self.pool.fetch("SELECT * FROM outbox ORDER BY id")

    async def decided(self) -> list[RecordedEvent]:
        """What was decided about the customer and is on the line."""
        key = DEFAULT.identity_keys.identify(self.customer).key
        return [
            record
            for record in await records_of(self.lent.line.store)
            if record.owner_key == key and record.type == EVENT_TYPE_NOTE_ADDED
        ]

    async def notes(self) -> list[str]:
        """What those decisions say, in the order of the line."""
        records = [Recorded(0, 0, record, b"") for record in await self.decided()]
        opened = await open_events(self.store, records)
        return [event.note_added.text for event in opened if event is not None]

    def reactor(self) -> Caller:
        """A reactor as a process starts it."""
        return Caller(self)

    @asynccontextmanager
    async def reacting(self, reactor: Caller, lease: timedelta = LEASE) -> AsyncIterator[Runner]:
        """Runs the reactor; at the end it is gone as after a kill, its lease stays."""
        runner = Runner(reactor, self.pool, self.store, uuid4(), lease=lease)
        async with running(runner.run()):
            yield runner

    @asynccontextmanager
    async def sending(
        self, *runners: Runner, lease: timedelta = LEASE, outbox: Outbox | None = None
    ) -> AsyncIterator[Sender]:
        """Runs a sender; at the end it is gone as after a kill, its lease stays."""
        folds = [runner.projection for runner in runners]
        sender = Sender(
            outbox or self.outbox, self.pool, self.store, folds, owner=uuid4(), lease=lease
        )
        async with running(sender.run()):
            yield sender


class Caller:
    """A reactor: whoever writes an email is to be rung back.

    Attributes:
        failures: How many times to fail, after it decided.
        unprepared: What its next preparations fail with.
    """

    name = REACTOR
    fold_version = 1
    divisible = False
    tables: tuple[Table, ...] = ()

    def __init__(self, desk: Desk) -> None:
        self.failures = 0
        self.unprepared: list[Exception] = []
        self._desk = desk
        self._opened: dict[int, Event | None] = {}

    def copy(self) -> None:
        """Only one may decide."""

    async def prepare(self, events: Sequence[Recorded]) -> None:
        """Opens the events."""
        if self.unprepared:
            raise self.unprepared.pop(0)
        opened = await open_events(self._desk.store, events)
        self._opened = {one.position: event for one, event in zip(events, opened, strict=True)}

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Writes down whose event it saw, and decides."""
        decisions = []
        for one in events:
            event = self._opened[one.position]
            if event is None or not event.HasField("interaction"):
                continue
            if event.identities[0].value != self._desk.customer.value:
                continue
            await connection.execute("INSERT INTO ledger (position) VALUES ($1)", one.position)
            note = NoteAdded(text=f"{self._desk.words}: {event.interaction.text}")
            decision = Event(
                event_id=decision_id(one.recorded_at_us, one.record.event_id, "note"),
                identities=event.identities,
                occurred_at=event.occurred_at,
                source="reactor",
                causation_id=event.event_id,
                note_added=note,
            )
            decisions.append(Decision("default", decision, one.position))
        await self._desk.outbox.decide(connection, self.name, decisions)
        if decisions and self.failures:
            self.failures -= 1
            raise ConnectionError("the test wants it to fail here")

    def aborted(self) -> None:
        """It opens the events again."""
        self._opened = {}


@asynccontextmanager
async def new_desk(servers: SharedPostgres, lent: Lent) -> AsyncIterator[Desk]:
    """Makes a database for a reactor, and drops it at the end."""
    name = f"desk_{secrets.token_hex(6)}"
    await create_database(servers.url, name, await servers.template(build_ledger))
    url = database_url_for(servers.url, name)
    async with open_pool(url, application="desk", settings={"synchronous_commit": "off"}) as pool:
        customer = email(f"customer-{next(_customers)}@example.net")
        yield Desk(lent, url, pool, customer, Outbox(IDENTITY_SECRET))
    await drop_database(servers.url, name)
