"""A relay that believes that it leads, and does not, changes nothing (invariants 6 and 7)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
from nats.js.errors import BadRequestError

from libs.eventstore import feed, store
from libs.eventstore.feed import lease as relay_lease
from libs.eventstore.feed import relay as relays
from libs.eventstore.feed.lease import relay_report
from libs.postgres.pool import open_pool
from tests.proxy import TcpProxy
from tests.relaying import Freezer, Relaying, events_of, history, on_feed, relaying
from tests.servers import MakeDatabase, OwnNats
from tests.store import Line, build_store, open_line, row
from tests.waiting import until

Meanwhile = Callable[[Relaying], Awaitable[None]]


@pytest.fixture
async def line(database_from_template: MakeDatabase) -> AsyncIterator[Line]:
    async with open_line(await database_from_template(build_store)) as line:
        yield line


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases and patience that end soon."""
    monkeypatch.setattr(relays, "LEASE", timedelta(seconds=0.4))
    monkeypatch.setattr(relays, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(relays, "_NATS_SECONDS", 0.3)
    monkeypatch.setattr(relay_lease, "_ANSWER_SECONDS", 0.3)


async def did_nothing(second: Relaying) -> None:
    """The one that leads now has published nothing."""
    del second


async def made_another_stream(second: Relaying) -> None:
    """The stream was deleted and made anew, and is empty."""
    jetstream = second.connection.jetstream()
    await jetstream.delete_stream(feed.STREAM)
    await feed.ensure_stream(jetstream)


@pytest.mark.parametrize(
    ("kept", "meanwhile"),
    [(1, did_nothing), (1, made_another_stream), (0, made_another_stream)],
    ids=["nothing", "another stream", "another stream, both empty"],
)
async def test_a_zombie_publishes_nothing_though_the_new_leader_has_not_either(
    line: Line, nats: OwnNats, kept: int, meanwhile: Meanwhile
) -> None:
    first, second = Freezer(), Freezer()
    async with relaying(line, nats, publishing=first) as zombie:
        await until(lambda: zombie.relay.state.leads)
        if kept:  # the feed has a batch before the one in the zombie's hands
            first.thawed.set()
            await zombie.append(1)
            await zombie.reached(1)
            first.thawed.clear()
            first.stopped.clear()
            first.outcomes.clear()
        await zombie.append(10)
        await first.stopped.wait()
        async with relaying(line, nats, publishing=second) as leader:
            await until(lambda: leader.relay.state.leads)
            await meanwhile(leader)
            there = await on_feed(leader.connection)
            refused = await first.outcome()
            assert isinstance(refused, BadRequestError)
            assert await on_feed(leader.connection) == there
            second.thawed.set()
            await leader.append(11)
            await leader.reached(kept + 2)  # on a new feed perhaps as its beginning
            await leader.append(12)
            await leader.reached(kept + 3)
            batches = await on_feed(leader.connection)
    assert events_of(batches) == await history(line, batches[0].first - 1)


@pytest.mark.parametrize("frozen_in", ["reading", "publishing"])
async def test_a_zombie_publishes_nothing_after_the_new_leader_did(
    line: Line, nats: OwnNats, frozen_in: str
) -> None:
    freezer = Freezer()
    reading, publishing = (
        freezer if frozen_in == step else None for step in ("reading", "publishing")
    )
    async with relaying(line, nats, reading=reading, publishing=publishing) as zombie:
        await until(lambda: zombie.relay.state.leads)
        await line.append([row(1)])  # the zombie reads it, or holds it in its hands
        zombie.relay.wake(1)
        await freezer.stopped.wait()
        async with relaying(line, nats) as leader:
            await until(lambda: leader.relay.state.leads)
            await leader.append(2)
            await leader.append(3)
            await leader.reached(3)
            freezer.thawed.set()
            if frozen_in == "publishing":
                assert isinstance(await freezer.outcome(), BadRequestError)
            await leader.append(4)
            await leader.reached(4)
            batches = await on_feed(leader.connection)
    assert events_of(batches) == await history(line, batches[0].first - 1)


async def test_a_leader_cut_from_nats_is_followed_and_what_it_sent_comes_too_late(
    line: Line, nats: OwnNats
) -> None:
    async with TcpProxy("127.0.0.1", nats.server.port) as proxy:
        way = nats.url.replace(f":{nats.server.port}", f":{proxy.port}")
        async with AsyncExitStack() as stack:
            cut_off = await stack.enter_async_context(relaying(line, nats, nats_url=way))
            await until(lambda: cut_off.relay.state.leads)
            second = await stack.enter_async_context(relaying(line, nats))
            proxy.freeze()
            await cut_off.append(1)  # it is on its way to NATS
            await until(lambda: second.relay.state.leads)
            assert not cut_off.relay.state.leads
            await second.reached(1)
            proxy.resume()
            await second.append(2)
            await second.reached(2)
            batches = await on_feed(second.connection)
            assert second.relay.state.leads  # the other one did not take the lease back
    assert events_of(batches) == await history(line, batches[0].first - 1)


async def test_a_leader_cut_from_postgresql_is_followed(line: Line, nats: OwnNats) -> None:
    host, port = "127.0.0.1", int(line.url.rpartition(":")[2].partition("/")[0])
    async with (
        TcpProxy(host, port) as proxy,
        open_pool(
            line.url.replace(f":{port}/", f":{proxy.port}/"), application="cut", role=store.ROLE
        ) as pool,
        relaying(line, nats, pool=pool) as cut_off,
    ):
        await until(lambda: cut_off.relay.state.leads)
        proxy.freeze()
        async with relaying(line, nats) as second:
            await second.append(1)
            await second.reached(1)
            assert not cut_off.relay.state.leads
            proxy.resume()
            await second.append(2)
            await second.reached(2)
            batches = await on_feed(second.connection)
    assert events_of(batches) == await history(line, batches[0].first - 1)


async def test_every_process_tells_who_leads_and_how_far_the_feed_is(
    line: Line, nats: OwnNats
) -> None:
    assert not (await relay_report(line.pool)).led
    async with relaying(line, nats) as one:
        await one.append(1)
        await one.reached(1)
        epoch = (await relay_report(line.pool)).epoch
        assert await feed.leader_epoch(one.connection.jetstream()) == epoch == 1
        async with asyncio.timeout(30):
            while (await relay_report(line.pool)).position != 1:  # noqa: ASYNC110 - once a renewal
                await asyncio.sleep(0.02)
        report = await relay_report(line.pool)
        assert (report.led, report.epoch, report.problem) == (True, 1, "")
        await one.relay.stop()
        assert not (await relay_report(line.pool)).led


async def test_appends_of_two_processes_come_on_the_feed_in_their_order(
    line: Line, nats: OwnNats
) -> None:
    async with relaying(line, nats) as one, relaying(line, nats) as two:
        await until(lambda: one.relay.state.leads or two.relay.state.leads)
        for start in range(0, 400, 40):
            await asyncio.gather(
                *((one, two)[number % 2].append(number + 1) for number in range(start, start + 40))
            )
        leader = one if one.relay.state.leads else two
        await leader.reached(400)
        batches = await on_feed(leader.connection)
    assert events_of(batches) == await history(line)
