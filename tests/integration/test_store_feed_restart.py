"""A feed that is lost begins again; one that is not this store's is refused, with the way out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import StreamConfig, StreamInfo
from nats.js.errors import ServerError

from libs.eventstore import feed
from libs.eventstore.connection import connect_nats
from libs.eventstore.errors import FeedForked, FeedUnavailable
from libs.eventstore.feed import relay as relays
from libs.eventstore.feed.end import Restart, end_of_feed, restart_feed
from libs.eventstore.feed.lease import relay_report
from libs.eventstore.feed.summary import summary
from tests.relaying import events_of, history, on_feed, relaying
from tests.servers import MakeDatabase, OwnNats
from tests.store import Line, build_store, open_line, row
from tests.waiting import until

Spoil = Callable[[Line, JetStreamContext], Awaitable[None]]


@pytest.fixture
async def line(database_from_template: MakeDatabase) -> AsyncIterator[Line]:
    async with open_line(await database_from_template(build_store)) as line:
        yield line


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that end soon."""
    monkeypatch.setattr(relays, "LEASE", timedelta(seconds=0.6))
    monkeypatch.setattr(relays, "RENEW_SECONDS", 0.15)


async def ends_with_garbage(_: Line, jetstream: JetStreamContext) -> None:
    await jetstream.publish(feed.SUBJECT, b"\xff\xff garbage")


async def ends_truncated(line: Line, jetstream: JetStreamContext) -> None:
    whole = (await line.store.history(0)).SerializeToString()
    await jetstream.publish(feed.SUBJECT, whole[: len(whole) // 2])


async def has_other_bytes_than_its_hash(line: Line, jetstream: JetStreamContext) -> None:
    batch = await line.store.history(0)
    batch.events[0].record = b"another record"
    await jetstream.publish(feed.SUBJECT, batch.SerializeToString())


async def covers_less_than_its_chain(line: Line, jetstream: JetStreamContext) -> None:
    batch = await line.store.history(0)
    batch.first += 1
    del batch.events[0]
    await jetstream.publish(feed.SUBJECT, batch.SerializeToString())


async def has_another_past(line: Line, jetstream: JetStreamContext) -> None:
    batch = await line.store.history(0)
    batch.chain = bytes(32)
    await jetstream.publish(feed.SUBJECT, batch.SerializeToString())


async def is_of_another_store(line: Line, jetstream: JetStreamContext) -> None:
    batch = await line.store.history(0)
    batch.store_id = b"another store!!!"
    await jetstream.publish(feed.SUBJECT, batch.SerializeToString())


async def is_of_an_ancestor(line: Line, jetstream: JetStreamContext) -> None:
    await jetstream.publish(feed.SUBJECT, (await line.store.history(0)).SerializeToString())
    await line.owner("SELECT become_another_store()")


SPOILT = {
    "is no batch of events": ends_with_garbage,
    "message that is no batch": ends_truncated,
    "are not those that the store has there": has_other_bytes_than_its_hash,
    "a damaged batch": covers_less_than_its_chain,
    "with another past than this store's": has_another_past,
    "of another store than this one, 616e6f74": is_of_another_store,
    "from whose backup, up to position 2, this one was restored": is_of_an_ancestor,
}


async def test_what_does_not_continue_the_store_is_refused_and_removed(
    line: Line, nats: OwnNats
) -> None:
    await line.append([row(1, "1")], [row(2, "2")])
    async with connect_nats(nats.url, "relay") as connection:
        jetstream = connection.jetstream()
        for told, spoil in SPOILT.items():
            await feed.ensure_stream(jetstream)
            await spoil(line, jetstream)
            with pytest.raises(FeedForked, match=told) as refused:
                await end_of_feed(jetstream, line.store)
            assert "`touchline feed restart`" in str(refused.value)
            assert await restart_feed(jetstream, line.store, 1) == Restart(True, 2)
            assert await restart_feed(jetstream, line.store, 1) == Restart(False, 2)


async def test_restarting_says_when_another_store_publishes_on_what_was_just_made(
    line: Line, nats: OwnNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    await line.append([row(1, "1")], [row(2, "2")])
    make = feed.ensure_stream

    async def make_beside_another(jetstream: JetStreamContext, replicas: int) -> None:
        await make(jetstream, replicas)
        await is_of_another_store(line, jetstream)

    async with connect_nats(nats.url, "relay") as connection:
        jetstream = connection.jetstream()
        await make_beside_another(jetstream, 1)
        monkeypatch.setattr(feed, "ensure_stream", make_beside_another)
        with pytest.raises(FeedUnavailable, match=r"somebody else published on it: .* of another"):
            await restart_feed(jetstream, line.store, 1)


async def test_a_server_that_can_t_make_the_stream_at_once_leaves_it_to_the_leader(
    line: Line, nats: OwnNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    await line.append([row(1, "1")], [row(2, "2")])

    async def refuse(_: JetStreamContext, __: int) -> None:
        raise ServerError(code=500, err_code=10049, description="error creating store for stream")

    async with connect_nats(nats.url, "relay") as connection:
        jetstream = connection.jetstream()
        await feed.ensure_stream(jetstream)
        await ends_with_garbage(line, jetstream)
        monkeypatch.setattr(feed, "ensure_stream", refuse)
        assert await restart_feed(jetstream, line.store, 1) == Restart(True, 2)
        assert await feed.find_stream(jetstream) is None


async def test_a_stream_that_can_t_be_made_at_once_is_made_a_moment_later(
    nats: OwnNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [ServerError(code=500, err_code=10049, description="error creating store")] * 2
    async with connect_nats(nats.url, "relay") as connection:
        jetstream = connection.jetstream()
        make = jetstream.add_stream

        async def make_later(config: StreamConfig) -> StreamInfo:
            if failures:
                raise failures.pop()
            return await make(config)

        monkeypatch.setattr(jetstream, "add_stream", make_later)
        made = await feed.ensure_stream(jetstream)
        assert (failures, made.config.name) == ([], feed.STREAM)


async def test_nothing_is_published_on_a_spoilt_feed_until_any_process_begins_it_anew(
    line: Line, nats: OwnNats
) -> None:
    await line.append([row(1, "1")], [row(2, "2")])
    async with relaying(line, nats) as one, relaying(line, nats) as two:
        await until(lambda: one.relay.state.leads or two.relay.state.leads)
        await is_of_another_store(line, one.connection.jetstream())
        assert "of another store" in await reported(line)
        assert not one.relay.state.leads
        assert not two.relay.state.leads
        done = await two.relay.restart_feed()
        assert (done.restarted, done.position) == (True, 2)
        await until(lambda: one.relay.state.leads or two.relay.state.leads)
        leader = one if one.relay.state.leads else two
        await leader.append(3)
        await leader.reached(3)
        assert events_of(await on_feed(one.connection)) == await history(line, 2)
        await no_longer_reported(line)


async def test_a_feed_that_continues_the_store_is_left_as_it_is(line: Line, nats: OwnNats) -> None:
    async with relaying(line, nats) as one, relaying(line, nats) as two:
        await until(lambda: one.relay.state.leads or two.relay.state.leads)
        leader, other = (one, two) if one.relay.state.leads else (two, one)
        await leader.append(1)
        await leader.reached(1)
        before = await on_feed(one.connection)
        for relaying_ in (leader, other):
            done = await relaying_.relay.restart_feed()
            assert (done.restarted, done.position) == (False, 1)
        assert await on_feed(one.connection) == before
        assert leader.relay.state.leads


async def test_a_feed_that_is_lost_while_nothing_is_recorded_begins_again(
    line: Line, nats: OwnNats
) -> None:
    async with relaying(line, nats) as one:
        await one.append(1)
        await one.reached(1)
        jetstream = one.connection.jetstream()
        await jetstream.delete_stream(feed.STREAM)
        await _made(jetstream)
        await until(lambda: one.relay.state.leads)
        await one.append(2)
        await one.reached(2)
        await nats.wipe()
        await _made(jetstream)
        await until(lambda: one.relay.state.leads)
        await one.append(3)
        await one.reached(3)
        (batch,) = await on_feed(one.connection)
        assert (batch.first, batch.last) == (3, 3)


async def test_restarting_says_when_nats_is_away(
    line: Line, nats: OwnNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "_NATS_SECONDS", 0.3)
    async with relaying(line, nats) as one:
        await until(lambda: one.relay.state.leads)
        await nats.kill()
        with pytest.raises(FeedUnavailable, match="NATS is away"):
            await one.relay.restart_feed()
        await nats.start()


async def test_a_feed_is_summed_up_without_being_read(line: Line, nats: OwnNats) -> None:
    async with relaying(line, nats) as one:
        await until(lambda: one.relay.state.leads)
        jetstream = one.connection.jetstream()
        empty = await summary(jetstream)
        assert empty is not None
        assert (empty.batches, empty.first, empty.last, empty.epoch) == (0, 0, 0, 1)
        for number in range(1, 4):
            await one.append(number)
            await one.reached(number)
        told = await summary(jetstream)
        assert told is not None
        assert (told.batches, told.first, told.last, told.servers) == (3, 1, 3, 1)
        await jetstream.publish(feed.SUBJECT, b"\xff garbage")
        spoilt = await summary(jetstream)
        assert spoilt is not None
        assert (spoilt.batches, spoilt.last) == (4, 0)
        await jetstream.delete_stream(feed.STREAM)
        assert await summary(jetstream) is None


async def reported(line: Line) -> str:
    async with asyncio.timeout(30):
        while not (found := (await relay_report(line.pool)).problem):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


async def no_longer_reported(line: Line) -> None:
    async with asyncio.timeout(30):
        while (await relay_report(line.pool)).problem:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def _made(jetstream: JetStreamContext) -> None:
    async with asyncio.timeout(30):
        while True:
            with suppress(NatsError):  # NATS is just starting
                if await feed.find_stream(jetstream) is not None:
                    return
            await asyncio.sleep(0.02)
