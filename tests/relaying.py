"""Relays on real servers, as processes run them, and as processes that freeze."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import uuid4

import asyncpg
from nats.aio.client import Client as NatsClient
from nats.js import JetStreamContext

from libs.eventstore import feed, store
from libs.eventstore.appender import Appender
from libs.eventstore.chain import extend
from libs.eventstore.connection import connect_nats
from libs.eventstore.feed.relay import Relay
from libs.eventstore.store import EventStore
from libs.tasks import running
from tests.servers import OwnNats
from tests.store import Line, row, whole_line
from tests.waiting import until
from touchline.store.v1.store_pb2 import EventBatch, PackedEvent


@dataclass(slots=True)
class Freezer:
    """Stops a relay where it stands until it is thawed, as SIGSTOP would.

    Attributes:
        stopped: Set once it stands still.
        thawed: Lets it go on.
        outcomes: What became of each batch it published afterwards: the error, or None.
    """

    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    thawed: asyncio.Event = field(default_factory=asyncio.Event)
    outcomes: list[Exception | None] = field(default_factory=list)

    async def stop(self) -> None:
        """Stands still."""
        self.stopped.set()
        await self.thawed.wait()

    async def outcome(self) -> Exception | None:
        """Lets the relay go on, and returns what became of the batch it had in its hands."""
        self.thawed.set()
        await until(lambda: bool(self.outcomes))
        return self.outcomes[0]


class FrozenStore(EventStore):
    """Stops in front of reading history."""

    freezer: Freezer

    async def history(self, after: int, **page: Any) -> EventBatch:
        await self.freezer.stop()
        return await super().history(after, **page)


class FrozenFeed(JetStreamContext):
    """Stops in front of publishing a batch."""

    freezer: Freezer

    async def publish(self, subject: str, *arguments: Any, **named: Any) -> Any:
        if subject != feed.SUBJECT:
            return await super().publish(subject, *arguments, **named)
        await self.freezer.stop()
        try:
            acknowledged = await super().publish(subject, *arguments, **named)
        except Exception as error:
            self.freezer.outcomes.append(error)
            raise
        self.freezer.outcomes.append(None)
        return acknowledged


@dataclass(frozen=True, slots=True)
class FreezingConnection:
    """A connection whose JetStream stops in front of publishing a batch."""

    connection: NatsClient
    freezer: Freezer

    def jetstream(self, **options: Any) -> JetStreamContext:
        frozen = FrozenFeed(self.connection, **options)
        frozen.freezer = self.freezer
        return frozen


@dataclass(frozen=True, slots=True)
class Relaying:
    """A relay as a process runs it, and an appender that hands over to it."""

    relay: Relay
    appender: Appender
    connection: NatsClient

    async def append(self, *numbers: int, size: int = 20) -> None:
        rows = [row(number, f"{number}", record=bytes(size)) for number in numbers]
        await self.appender.append([[one] for one in rows])

    async def reached(self, position: int, within: float = 30.0) -> None:
        """Returns once this relay has put everything up to a position on the feed."""
        await until(lambda: self.relay.state.position == position, within)


@asynccontextmanager
async def relaying(
    line: Line,
    nats: OwnNats,
    *,
    reading: Freezer | None = None,
    publishing: Freezer | None = None,
    nats_url: str = "",
    pool: asyncpg.Pool | None = None,
) -> AsyncIterator[Relaying]:
    """Runs a relay like a process that is killed at the end: it gives no lease back.

    Args:
        line: The store.
        nats: Where the feed is.
        reading: Stops the relay in front of reading history.
        publishing: Stops it between its look at the lease and publishing a batch.
        nats_url: Its way to NATS. Default: the straight one.
        pool: Its connections to PostgreSQL. Default: the store's.
    """
    async with connect_nats(nats_url or nats.url, "relay") as connection:
        publishes, reads = connection, line.store
        if publishing is not None:
            publishes = cast("NatsClient", FreezingConnection(connection, publishing))
        if reading is not None:
            reads = FrozenStore(line.pool)
            reads.freezer = reading
        relay = Relay(pool or line.pool, reads, publishes, uuid4())
        appender = Appender(line.store, relay.hand_over)
        async with (
            running(relay.run(), appender.run()),
            store.listen(line.url, relay.wake),
        ):
            yield Relaying(relay, appender, connection)


async def on_feed(connection: NatsClient) -> list[EventBatch]:
    """Reads the whole feed, and checks that each batch continues the one before."""
    jetstream = connection.jetstream()
    state = (await jetstream.stream_info(feed.STREAM)).state
    batches: list[EventBatch] = []
    for sequence in range(state.first_seq, state.last_seq + 1):
        message = await jetstream.get_msg(feed.STREAM, sequence)
        if message.subject == feed.LEADERS:
            continue
        batch = EventBatch.FromString(message.data or b"")
        assert (message.headers or {})[feed.MESSAGE_ID] == feed.message_id(batch)
        assert batch.last - batch.first + 1 == len(batch.events) > 0
        hashes = [event.content_hash for event in batch.events]
        assert extend(batch.previous_chain, hashes) == batch.chain
        if batches:
            assert batch.first == batches[-1].last + 1
            assert batch.previous_chain == batches[-1].chain
        batches.append(batch)
    return batches


async def history(line: Line, after: int = 0) -> list[PackedEvent]:
    events = [event for page in await whole_line(line.store) for event in page.events]
    return events[after:]


def events_of(batches: list[EventBatch]) -> list[PackedEvent]:
    return [event for batch in batches for event in batch.events]
