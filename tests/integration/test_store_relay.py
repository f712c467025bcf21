"""The feed is the line's end, whoever relays it and whatever NATS lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from uuid import uuid4

import pytest
import structlog
from nats.aio.client import Client as NatsClient
from nats.js import JetStreamContext

from libs.eventstore import feed, store
from libs.eventstore import relay as relays
from libs.eventstore.appender import Appender
from libs.eventstore.chain import extend
from libs.eventstore.connection import connect_nats
from libs.eventstore.relay import Relay
from libs.eventstore.store import EventStore
from libs.tasks import running
from tests.servers import MakeDatabase, OwnNats
from tests.store import Line, build_store, open_line, row, whole_line
from tests.waiting import until
from touchline.store.v1.store_pb2 import EventBatch, PackedEvent

_BATCH = 512 * 1024


@pytest.fixture
async def line(database_from_template: MakeDatabase) -> AsyncIterator[Line]:
    async with open_line(await database_from_template(build_store)) as line:
        yield line


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that end soon, for tests of what happens then."""
    monkeypatch.setattr(relays, "LEASE", timedelta(seconds=0.6))
    monkeypatch.setattr(relays, "RENEW_SECONDS", 0.15)


@dataclass(frozen=True, slots=True)
class Relaying:
    """A relay as a process runs it, and an appender that hands over to it."""

    relay: Relay
    appender: Appender
    connection: NatsClient

    async def append(self, *numbers: int, size: int = 20) -> None:
        rows = [row(number, f"{number}", record=bytes(size)) for number in numbers]
        await self.appender.append([[one] for one in rows])

    async def reached(self, position: int, within: float = 10) -> None:
        """Returns once this relay has put everything up to a position on the feed."""
        await until(lambda: self.relay.state.position == position, within)


@asynccontextmanager
async def relaying(
    line: Line, nats: OwnNats, read_from: EventStore | None = None
) -> AsyncIterator[Relaying]:
    """Runs a relay like a process that is killed at the end: it gives no lease back."""
    async with connect_nats(nats.url, "relay") as connection:
        relay = Relay(line.pool, read_from or line.store, connection, uuid4())
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


async def test_the_feed_is_byte_for_byte_what_history_tells(line: Line, nats: OwnNats) -> None:
    async with relaying(line, nats) as one:
        await until(lambda: one.relay.state.leads)
        await asyncio.gather(*(one.append(number, number + 1000) for number in range(1, 60)))
        await one.append(*range(5000, 5004), size=200 * 1024)  # more than one batch holds
        await line.append([row(7000)], [row(7001)])  # as another process would
        await one.append(8000, size=300 * 1024)
        await one.append(8001, size=300 * 1024)
        await one.reached(126)
        batches = await on_feed(one.connection)
    assert [event.SerializeToString() for event in events_of(batches)] == [
        event.SerializeToString() for event in await history(line)
    ]
    assert {batch.store_id for batch in batches} == {(await line.store.head()).store_id}
    assert max(batch.ByteSize() for batch in batches) <= _BATCH


async def test_a_new_feed_starts_at_the_head(line: Line, nats: OwnNats) -> None:
    await line.append([row(1)], [row(2)])
    head = await line.store.head()
    async with relaying(line, nats) as one:
        await one.reached(2)
        await one.append(3)
        await one.reached(3)
        (batch,) = await on_feed(one.connection)
    assert (batch.first, batch.previous_chain) == (3, head.chain)


@pytest.mark.parametrize("missed", [0, 1])
async def test_a_relay_that_starts_again_continues_the_feed(
    line: Line, nats: OwnNats, missed: int
) -> None:
    async with relaying(line, nats) as before:
        await until(lambda: before.relay.state.leads)
        await before.append(1)
        await before.reached(1)
        await before.relay.stop()
    if missed:
        await line.append([row(10)])
    async with relaying(line, nats) as after:
        await after.append(2)
        await after.reached(2 + missed)
        assert events_of(await on_feed(after.connection)) == await history(line)


async def test_another_relay_takes_over_within_five_seconds(line: Line, nats: OwnNats) -> None:
    async with AsyncExitStack() as first_process:
        first = await first_process.enter_async_context(relaying(line, nats))
        await until(lambda: first.relay.state.leads)
        async with relaying(line, nats) as second:
            await first.append(1)
            await first.reached(1)
            await asyncio.sleep(1.2)  # long enough to ask for the lease, and not to get it
            assert not second.relay.state.leads
            await first_process.aclose()  # without a word, as if it were frozen
            await second.append(2)
            await second.reached(2, within=5)
            assert len(events_of(await on_feed(second.connection))) == 2


async def test_a_relay_that_stops_in_order_is_followed_at_once(line: Line, nats: OwnNats) -> None:
    async with relaying(line, nats) as first:
        await until(lambda: first.relay.state.leads)
        await first.relay.stop()
    async with relaying(line, nats) as second:
        await until(lambda: second.relay.state.leads, 1.5)


class FrozenStore(EventStore):
    """Stops reading until it is thawed, like a process that was stopped."""

    thawed: asyncio.Event

    async def history(self, after: int, **page: Any) -> EventBatch:
        await self.thawed.wait()
        return await super().history(after, **page)


class FrozenFeed(JetStreamContext):
    """Stops in front of a publish until it is thawed."""

    thawed: asyncio.Event

    async def publish(self, *arguments: Any, **named: Any) -> Any:
        await self.thawed.wait()
        return await super().publish(*arguments, **named)


@dataclass(frozen=True, slots=True)
class FreezingConnection:
    """A connection whose JetStream stops in front of a publish."""

    connection: NatsClient
    thawed: asyncio.Event

    def jetstream(self, **options: Any) -> JetStreamContext:
        frozen = FrozenFeed(self.connection, **options)
        frozen.thawed = self.thawed
        return frozen


@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("frozen_in", ["reading", "publishing"])
async def test_a_leader_frozen_in_the_middle_is_replaced_and_its_late_publish_forks_nothing(
    line: Line, nats: OwnNats, frozen_in: str
) -> None:
    thawed = asyncio.Event()
    reads = line.store
    async with connect_nats(nats.url, "frozen") as connection:
        if frozen_in == "reading":
            reads = FrozenStore(line.pool)
            reads.thawed = thawed
            publishes = connection
        else:
            publishes = cast("NatsClient", FreezingConnection(connection, thawed))
        zombie = Relay(line.pool, reads, publishes, uuid4())
        async with running(zombie.run()):
            await until(lambda: zombie.state.leads)
            await line.append([row(1)])  # the zombie reads it, or holds it in its hands
            zombie.wake(1)
            async with relaying(line, nats) as second:
                await until(lambda: second.relay.state.leads, 5)
                await second.append(2)
                await second.append(3)
                await second.reached(3)
                thawed.set()
                zombie.wake(3)
                await until(lambda: not zombie.state.leads)
                await second.append(4)
                await second.reached(4)
                batches = await on_feed(second.connection)
    assert events_of(batches)[-3:] == await history(line, 1)
    assert len({(batch.first, batch.last) for batch in batches}) == len(batches)


@pytest.mark.usefixtures("brisk")
async def test_a_deleted_stream_starts_again_at_the_head(line: Line, nats: OwnNats) -> None:
    async with relaying(line, nats) as one:
        await until(lambda: one.relay.state.leads)
        await one.append(1)
        await one.reached(1)
        await one.connection.jetstream().delete_stream(feed.STREAM)
        await one.append(2)  # nobody takes it; who follows the feed reads it from history
        await until(lambda: one.relay.state.leads and one.relay.state.position == 2)
        await one.append(3)
        await one.reached(3)
        batches = await on_feed(one.connection)
    assert events_of(batches) == await history(line, batches[0].first - 1)
    assert batches[-1].last == 3


@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("loses", [False, True])
async def test_the_relay_goes_on_when_nats_comes_back(
    line: Line, nats: OwnNats, loses: bool
) -> None:
    async with relaying(line, nats) as one:
        await until(lambda: one.relay.state.leads)
        await one.append(1)
        await one.reached(1)
        if loses:
            await nats.wipe()
        else:
            await nats.kill()
            await one.append(2)  # the line does not need NATS
            await nats.start()
        await one.append(3)
        head = (await line.store.head()).position
        await one.reached(head)
        await until(lambda: one.relay.state.leads)
        await one.append(4)
        await one.reached(head + 1)
        batches = await on_feed(one.connection)
    assert events_of(batches) == await history(line, batches[0].first - 1)
    assert batches[-1].last == head + 1
    if not loses:
        assert batches[0].first == 1


@pytest.mark.usefixtures("brisk")
async def test_the_feed_of_another_store_is_refused_with_the_way_out(
    line: Line, nats: OwnNats, database_from_template: MakeDatabase
) -> None:
    async with open_line(await database_from_template(build_store)) as other:
        await other.owner("UPDATE store_head SET store_id = gen_random_uuid()")
        async with relaying(other, nats) as theirs:
            await until(lambda: theirs.relay.state.leads)
            await theirs.append(1)
            await theirs.reached(1)
            (foreign,) = await on_feed(theirs.connection)
            await theirs.relay.stop()
    await line.append([row(1, "1")], [row(2)])
    with structlog.testing.capture_logs() as told:
        async with relaying(line, nats) as ours:
            await until(lambda: any("another store" in str(entry) for entry in told))
            await ours.append(3)
            await asyncio.sleep(0.5)
            assert not ours.relay.state.leads
            assert await on_feed(ours.connection) == [foreign]
            (reason, *_) = [entry["reason"] for entry in told if "reason" in entry]
            assert "Delete the stream if it is not needed" in reason
            await ours.connection.jetstream().delete_stream(feed.STREAM)
            await until(lambda: ours.relay.state.leads)
            await ours.append(4)
            await ours.reached(4)
            assert (await on_feed(ours.connection))[-1].last == 4


@pytest.mark.usefixtures("brisk")
async def test_a_store_that_fell_back_refuses_the_feed_that_is_ahead(
    line: Line, nats: OwnNats
) -> None:
    async with relaying(line, nats) as one:
        await until(lambda: one.relay.state.leads)
        await one.append(1)
        await one.append(2)
        await one.reached(2)
        await one.relay.stop()
    # A backup of after the first event is restored.
    await line.owner("ALTER TABLE events DISABLE TRIGGER append_only")
    await line.owner("DELETE FROM events WHERE position = 2")
    await line.owner("UPDATE store_head SET position = 1, chain = e.chain FROM events e")
    with structlog.testing.capture_logs() as told:
        async with relaying(line, nats) as again:
            await until(lambda: any("another store" in str(entry) for entry in told))
            assert not again.relay.state.leads
