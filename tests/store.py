"""An event store on a real database, put together as the ingestion service does it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp

from libs.eventstore import store as eventstore
from libs.eventstore.appender import QUEUE_EVENTS, Appender
from libs.eventstore.keyring import Keyring
from libs.eventstore.records import Row, SealedTenant
from libs.eventstore.sealing import MasterKey
from libs.eventstore.store import Appended, EventStore
from libs.eventstore.verification import Verification, verify
from libs.identity.keys import IdentityKeys, partition_of, tenant_secret
from libs.postgres.migrations import migrate
from libs.postgres.pool import open_pool
from libs.rpc.tenants import Tenants
from libs.tasks import running
from services.ingestion import quarantine
from services.ingestion.erasing import Erasing
from services.ingestion.event_types import EventTypes
from services.ingestion.quarantine import Quarantine
from services.ingestion.recording import Recorder, TenantSecrets
from touchline.events.v1 import event_pb2, facts_pb2, identity_pb2
from touchline.events.v1.decisions_pb2 import Erasure
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1.ingestion_pb2 import Verdict
from touchline.store.v1 import store_pb2
from touchline.store.v1.store_pb2 import EventBatch, RecordedEvent

IDENTITY_SECRET = bytes(range(32))
MASTER_KEY = MasterKey(bytes(range(32, 64)))
RECORDED = store_pb2.APPEND_OUTCOME_RECORDED
DUPLICATE = store_pb2.APPEND_OUTCOME_DUPLICATE
CONFLICT = store_pb2.APPEND_OUTCOME_CONFLICT
REJECTED = store_pb2.APPEND_OUTCOME_REJECTED
VERSION_TAKEN = store_pb2.APPEND_OUTCOME_VERSION_TAKEN
UNIT_REFUSED = store_pb2.APPEND_OUTCOME_UNIT_REFUSED

TENANTS = Tenants(("default", "other"))


def _secrets_of(name: str) -> TenantSecrets:
    tenant, own = TENANTS.named(name), tenant_secret(IDENTITY_SECRET, name)
    return TenantSecrets(tenant, IdentityKeys(own), SealedTenant(tenant.number, own))


DEFAULT = _secrets_of("default")
OTHER = _secrets_of("other")
IDENTITY_KEYS = {secrets.tenant.number: secrets.identity_keys for secrets in (DEFAULT, OTHER)}
SECRETS = {secrets.tenant.number: secrets.sealed.secret for secrets in (DEFAULT, OTHER)}


async def build_store(url: str) -> None:
    """Makes the tables of the ingestion service."""
    await migrate(url, "eventstore", eventstore.MIGRATIONS)
    await migrate(url, "ingestion", quarantine.MIGRATIONS)


@dataclass(frozen=True, slots=True)
class Line:
    """An event store and what records into it.

    Attributes:
        url: Of the database, for its superuser.
        appended: What the appender appended, call by call.
    """

    url: str
    pool: asyncpg.Pool
    store: EventStore
    keyring: Keyring
    kept: Quarantine
    appender: Appender
    recorder: Recorder
    erasing: Erasing
    appended: list[Appended] = field(default_factory=list)

    async def record(self, *events: Event, by: TenantSecrets = DEFAULT) -> list[Verdict]:
        """Records copies of events as one request."""
        copies = [Event.FromString(one.SerializeToString()) for one in events]
        return await self.recorder.record(by, copies, "")

    async def erase(
        self,
        *identity_keys: bytes,
        erasure_id: str = "",
        by: TenantSecrets = DEFAULT,
        since: int = 0,
        before: int = 0,
    ) -> store_pb2.EraseResponse:
        """Erases identities; of a time range, given in seconds since 1970, what happened then."""
        request = store_pb2.EraseRequest(
            erasure_id=erasure_id or str(uuid4()),
            erasure=Erasure(
                identity_keys=identity_keys,
                occurred_from_us=since * 1_000_000,
                occurred_before_us=before * 1_000_000,
            ),
            reason="request 7",
            requested_by="agent-7",
        )
        return await self.erasing.erase(by, request, "")

    async def erases(
        self, request: store_pb2.EraseRequest, traceparent: str
    ) -> store_pb2.EraseResponse:
        """Erases what another service asks for, of the default tenant."""
        return await self.erasing.erase(DEFAULT, request, traceparent)

    async def append(self, *units: Sequence[Row]) -> list[tuple[int, int | None]]:
        """Appends units past the group commit, and returns outcomes and positions."""
        appended = await self.store.append(units)
        return [(verdict.outcome, verdict.position) for verdict in appended.verdicts]

    async def owner(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """Runs a statement as the superuser who owns the tables."""
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            await connection.close()

    async def verified(self, keyring: Keyring | None = None) -> Verification:
        """Verifies the whole line with fresh eyes: no data key is remembered."""
        keyring = keyring or Keyring(self.pool, MASTER_KEY)
        return [state async for state in verify(self.store, keyring, SECRETS)][-1]


@asynccontextmanager
async def open_line(
    url: str, *, queue_events: int = QUEUE_EVENTS, pool_size: int = 10
) -> AsyncIterator[Line]:
    """Puts the store of a database together, with its appender running."""
    async with open_pool(url, application="test", role=eventstore.ROLE, size=pool_size) as pool:
        store, keyring = EventStore(pool), Keyring(pool, MASTER_KEY)
        kept = Quarantine(pool, MASTER_KEY)
        appended: list[Appended] = []
        appender = Appender(store, appended.append, queue_events=queue_events)
        event_types = EventTypes(pool, keyring, IDENTITY_KEYS)
        recorder = Recorder(store, appender, keyring, kept, event_types)
        await keyring.check_master_key()
        async with running(appender.run()):
            erasing = Erasing(store, keyring, kept)
            yield Line(url, pool, store, keyring, kept, appender, recorder, erasing, appended)


@asynccontextmanager
async def held_head(url: str) -> AsyncIterator[None]:
    """Keeps every append waiting until the block ends."""
    holder = await asyncpg.connect(url)
    try:
        async with holder.transaction():
            await holder.execute("SELECT FROM store_head FOR UPDATE")
            yield
    finally:
        await holder.close()


async def tamper(line: Line, *statements: str) -> None:
    """Changes the line as only its superuser can, who first stops what guards it."""
    owner = await asyncpg.connect(line.url)
    await owner.execute("ALTER TABLE events DISABLE TRIGGER append_only")
    for statement in statements:
        await owner.execute(statement)
    await owner.execute("ALTER TABLE events ENABLE ALWAYS TRIGGER append_only")
    await owner.close()


def row(
    number: int,
    content: str = "",
    *,
    tenant: int = 1,
    owner: bytes = b"owner-of-an-event"[:16],
    stream: tuple[int, int] | None = None,
    record: bytes | None = None,
) -> Row:
    """A row whose event id is a number, and whose record is no sealed event.

    Args:
        number: Stands for the event id.
        content: Stands for the content; rows of one content have one hash.
        tenant: The tenant's number.
        owner: The owner key.
        stream: A decision stream's number and the version in it.
        record: The record's bytes; default: the content's.
    """
    return Row(
        tenant=tenant,
        event_id=UUID(int=number).bytes,
        owner_key=owner,
        partition=partition_of(owner),
        type=event_pb2.EVENT_TYPE_NOTE_ADDED,
        content_hash=sha256(content.encode()).digest(),
        record=content.encode() if record is None else record,
        stream_id=UUID(int=stream[0]).bytes if stream else None,
        stream_version=stream[1] if stream else None,
    )


def email(value: str) -> identity_pb2.Identity:
    """An email address as a caller sends it."""
    return identity_pb2.Identity(kind=identity_pb2.IDENTITY_KIND_EMAIL, value=value)


def handle(value: str) -> identity_pb2.Identity:
    """A handle on a social network as a caller sends it."""
    kind = identity_pb2.IDENTITY_KIND_SOCIAL_HANDLE
    return identity_pb2.Identity(kind=kind, namespace="mastodon", value=value)


def said(
    text: str,
    *,
    event_id: str = "",
    who: Iterable[identity_pb2.Identity] = (),
    at_seconds: int = 1_700_000_000,
    **event: Any,
) -> Event:
    """An event: a customer wrote an email."""
    contact = facts_pb2.Interaction(
        channel=facts_pb2.CHANNEL_EMAIL, direction=facts_pb2.DIRECTION_INBOUND, text=text
    )
    return Event(
        event_id=event_id or str(uuid4()),
        identities=list(who) or [email("ana@example.org")],
        occurred_at=Timestamp(seconds=at_seconds),
        source="mail",
        **{"interaction": contact, **event},
    )


async def whole_line(store: EventStore) -> list[EventBatch]:
    """Reads the line page by page, and checks that each page continues the one before."""
    pages: list[EventBatch] = []
    after = 0
    while (page := await store.history(after)).events:
        assert page.first == after + 1
        assert page.last - after == len(page.events)
        assert not pages or page.previous_chain == pages[-1].chain
        pages.append(page)
        after = page.last
    return pages


async def records_of(store: EventStore) -> list[RecordedEvent]:
    """Reads the whole line as records."""
    pages = await whole_line(store)
    return [RecordedEvent.FromString(event.record) for page in pages for event in page.events]


async def eventually(condition: Callable[[], Awaitable[bool]], within: float = 30.0) -> None:
    """Returns once an async condition holds; raises TimeoutError if it does not in time."""
    async with asyncio.timeout(within):
        while not await condition():  # noqa: ASYNC110 - no event tells of another process
            await asyncio.sleep(0.02)
