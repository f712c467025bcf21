"""The feed is the line's end, whoever relays it and whatever NATS lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
import structlog

from libs.eventstore import feed
from libs.eventstore.feed import relay as relays
from tests.relaying import events_of, history, on_feed, relaying
from tests.servers import MakeDatabase, OwnNats
from tests.store import Line, build_store, open_line, row
from tests.waiting import until

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


def test_a_lease_ends_so_soon_that_another_relay_takes_over_within_five_seconds() -> None:
    assert relays.LEASE.total_seconds() + relays.RENEW_SECONDS < 5


async def test_another_relay_takes_over_once_a_lease_ends(
    line: Line, nats: OwnNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "LEASE", timedelta(seconds=1.5))
    monkeypatch.setattr(relays, "RENEW_SECONDS", 0.2)
    async with AsyncExitStack() as first_process:
        first = await first_process.enter_async_context(relaying(line, nats))
        await until(lambda: first.relay.state.leads)
        async with relaying(line, nats) as second:
            await first.append(1)
            await first.reached(1)
            await asyncio.sleep(0.6)  # long enough to ask for the lease, and not to get it
            assert not second.relay.state.leads
            await first_process.aclose()  # without a word, as if it were frozen
            await second.append(2)
            await second.reached(2)
            assert len(events_of(await on_feed(second.connection))) == 2


async def test_a_relay_that_stops_in_order_is_followed_at_once(
    line: Line, nats: OwnNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "LEASE", timedelta(hours=1))
    async with relaying(line, nats) as first:
        await until(lambda: first.relay.state.leads)
        await first.relay.stop()
    async with relaying(line, nats) as second:
        await until(lambda: second.relay.state.leads)


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
            assert "`touchline feed restart`" in reason
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
    async with relaying(line, nats) as again:
        await until(lambda: "this store already at 1" in again.relay.state.problem)
        assert not again.relay.state.leads
