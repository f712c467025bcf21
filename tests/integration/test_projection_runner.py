"""Projections skip nothing and fold nothing twice, whatever becomes of the feed, the store or them.

Invariants 6 and 7.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import asyncpg
import pytest
import structlog

from libs.eventstore import feed
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.postgres.pool import open_pool
from libs.projection.runner import Runner
from tests.customers import new_email, record, told
from tests.given import note
from tests.projecting import (
    HALTED,
    LIVE,
    Ledger,
    build_ledger,
    checkpoint_of,
    ledger_of,
    runner_of,
    up_to,
)
from tests.servers import MakeDatabase
from tests.services import Touchline
from tests.waiting import until
from touchline.ingestion.v1.ingestion_service_pb2 import GetStoreStatusRequest
from touchline.store.v1.store_pb2 import EventBatch


@pytest.fixture
async def pool(database_from_template: MakeDatabase) -> AsyncIterator[asyncpg.Pool]:
    """Connections to a database in which a Ledger can write."""
    async with open_pool(await database_from_template(build_ledger), application="ledger") as pool:
        yield pool


@pytest.fixture
async def store(touchline: Touchline) -> AsyncIterator[StoreClient]:
    """The store's API, as a service sees it."""
    async with connect_nats(touchline.nats.service_url, "ledger") as connection:
        yield StoreClient(connection, timeout=2.0)


@pytest.fixture
async def shared_store(shared_touchline: Touchline) -> AsyncIterator[StoreClient]:
    """The store's API, of a store that other tests use too."""
    async with connect_nats(shared_touchline.nats.service_url, "ledger") as connection:
        yield StoreClient(connection)


async def tell(touchline: Touchline, count: int = 1) -> int:
    """Records notes, each in an append of its own, and returns the last position."""
    customer = new_email()
    for _ in range(count):
        last = await record(touchline.client, told(note("2024-03-01", "Called"), customer))
    return last


async def reaches(runner: Runner, position: int, within: float = 30.0) -> None:
    await until(lambda: runner.checkpoint.position >= position, within)


async def is_live(runner: Runner) -> None:
    await until(lambda: runner.state.state == LIVE)


async def test_given_history_and_then_a_feed_then_every_event_is_folded_once(
    touchline: Touchline, pool: asyncpg.Pool, store: StoreClient
) -> None:
    await tell(touchline, 5)
    async with runner_of(Ledger(), pool, store) as runner:
        await is_live(runner)
        assert await ledger_of(pool) == up_to(5)

        last = await tell(touchline, 20)
        await reaches(runner, last)

    head = await store.head()
    assert (runner.checkpoint.store_id, runner.checkpoint.chain) == (head.store_id, head.chain)
    assert await ledger_of(pool) == up_to(25)


@pytest.mark.parametrize("damaged", [False, True], ids=["lost", "damaged"])
async def test_given_a_batch_that_the_feed_lost_or_damaged_then_history_bridges_the_gap(
    touchline: Touchline,
    pool: asyncpg.Pool,
    store: StoreClient,
    damaged: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with runner_of(Ledger(), pool, store) as runner:
        await reaches(runner, await tell(touchline, 2))
        await is_live(runner)
        await silence_relay(touchline)
        if damaged:
            # What comes once history was read instead, nobody looks at.
            await publish_spoilt(touchline, (await store.history(0)).batch)
            await says(capsys, "is no batch of events", "is not the one that was sent")
        await tell(touchline, 3)
        if damaged:
            await publish_spoilt(touchline, (await store.history(2)).batch)
        await publish(touchline, await what_the_feed_tells(store, damaged))

        await reaches(runner, 5)
        await is_live(runner)
        assert await ledger_of(pool) == up_to(5)

        await touchline.execute(
            touchline.stores.events, "UPDATE relay_lease SET expires_at = '-infinity'"
        )
        await reaches(runner, await tell(touchline, 2))
    assert await ledger_of(pool) == up_to(7)


async def says(capsys: pytest.CaptureFixture[str], *reasons: str) -> None:
    """Returns once all reasons were logged."""
    said = ""
    async with asyncio.timeout(30):
        while not all(reason in said for reason in reasons):
            said += capsys.readouterr().out
            await asyncio.sleep(0.05)


async def silence_relay(touchline: Touchline) -> None:
    """Gives the relay's lease to nobody, so that events are stored and not published."""
    taken = "UPDATE relay_lease SET holder = gen_random_uuid(), expires_at = now() + '1 day'"
    await touchline.execute(touchline.stores.events, taken)
    async with asyncio.timeout(30):
        while await leads(touchline):  # noqa: ASYNC110 - no event tells of another process
            await asyncio.sleep(0.05)


async def leads(touchline: Touchline) -> bool:
    answer = await touchline.client.ingestion.GetStoreStatus(GetStoreStatusRequest())
    return answer.status.relay_leader


async def what_the_feed_tells(store: StoreClient, damaged: bool) -> EventBatch:
    """The events 3 to 5 out of order, or the last of them alone."""
    if not damaged:
        return (await store.history(4)).batch
    batch = (await store.history(2)).batch
    second = batch.events.pop(1)
    batch.events.append(second)
    return batch


async def publish_spoilt(touchline: Touchline, batch: EventBatch) -> None:
    """What the relay sent, cut off; and with the record of one event in the place of another's."""
    whole = batch.SerializeToString()
    await publish(touchline, batch, data=whole[: len(whole) // 2])
    digest = feed.digest_of(whole)
    batch.events[0].record, batch.events[1].record = batch.events[1].record, batch.events[0].record
    await publish(touchline, batch, digest=digest)


async def publish(
    touchline: Touchline, batch: EventBatch, *, data: bytes | None = None, digest: str | None = None
) -> None:
    """Publishes a batch, or other bytes or another digest in its place."""
    data = data or batch.SerializeToString()
    async with connect_nats(touchline.nats.url, "feed") as connection:
        await connection.jetstream().publish(
            feed.SUBJECT, data, headers={feed.DIGEST: digest or feed.digest_of(data)}
        )


async def delete_stream(touchline: Touchline) -> None:
    async with connect_nats(touchline.nats.url, "operator") as connection:
        await connection.jetstream().delete_stream(feed.STREAM)


async def wipe(touchline: Touchline) -> None:
    await touchline.nats.wipe()


async def kill_and_start(touchline: Touchline) -> None:
    await touchline.nats.kill()
    await touchline.nats.start()


@pytest.mark.parametrize("breakage", [delete_stream, wipe, kill_and_start])
async def test_given_a_feed_that_is_lost_then_the_projection_goes_on_without_a_gap(
    touchline: Touchline,
    pool: asyncpg.Pool,
    store: StoreClient,
    breakage: Callable[[Touchline], Awaitable[None]],
) -> None:
    async with runner_of(Ledger(), pool, store) as runner:
        await reaches(runner, await tell(touchline, 3))
        await is_live(runner)

        await breakage(touchline)
        await reaches(runner, await tell(touchline, 3))
        await is_live(runner)
        await reaches(runner, await tell(touchline, 3))

    assert await ledger_of(pool) == up_to(9)


async def test_given_a_fold_that_fails_in_the_middle_then_rows_and_checkpoint_are_as_before(
    shared_touchline: Touchline, pool: asyncpg.Pool, shared_store: StoreClient
) -> None:
    ledger = Ledger()
    async with runner_of(ledger, pool, shared_store) as runner:
        before = await tell(shared_touchline, 2)
        await reaches(runner, before)
        forgot, ledger.failures = ledger.forgot, 1
        ledger.after.clear()
        ledger.written.clear()
        last = await tell(shared_touchline)
        await ledger.written.wait()
        ledger.after.set()
        await until(lambda: ledger.forgot > forgot)

        assert (await ledger_of(pool), await checkpoint_of(pool)) == (up_to(before), before)
        await reaches(runner, last)

    assert (await ledger_of(pool), await checkpoint_of(pool)) == (up_to(last), last)


async def test_given_a_process_that_ends_in_the_middle_of_a_fold_then_nothing_of_it_is_left(
    shared_touchline: Touchline, pool: asyncpg.Pool, shared_store: StoreClient
) -> None:
    await tell(shared_touchline, 2)
    ledger = Ledger()
    ledger.after.clear()
    async with runner_of(ledger, pool, shared_store):
        await ledger.written.wait()

    assert (await ledger_of(pool), await checkpoint_of(pool)) == ([], 0)


@pytest.mark.parametrize("wrote_first", [True, False], ids=["has written", "writes too late"])
async def test_given_a_zombie_then_its_write_aborts_and_every_event_is_folded_once(
    shared_touchline: Touchline, pool: asyncpg.Pool, shared_store: StoreClient, wrote_first: bool
) -> None:
    zombie, successor = Ledger(), Ledger()
    (zombie.after if wrote_first else zombie.before).clear()
    last = await tell(shared_touchline, 3)
    with structlog.testing.capture_logs() as logs:
        async with runner_of(zombie, pool, shared_store) as one:
            await (zombie.written if wrote_first else zombie.started).wait()
            async with runner_of(successor, pool, shared_store) as other:
                await take_lease(pool)
                await successor.started.wait()
                if not wrote_first:
                    await reaches(other, last)
                zombie.before.set()
                zombie.after.set()
                await reaches(other, last)
                await until(lambda: "projection lost its lease" in [log["event"] for log in logs])
                last = await tell(shared_touchline, 2)
                await reaches(other, last)
                assert other.checkpoint.epoch == one.checkpoint.epoch + 1
                assert one.checkpoint.position == 0

    assert await ledger_of(pool) == up_to(last)


async def take_lease(pool: asyncpg.Pool) -> None:
    """Ends the lease, as time does that of a process that stands still."""
    await pool.execute("UPDATE projection_checkpoints SET leased_until = '-infinity'")


async def test_given_two_runners_and_folds_longer_than_the_lease_then_one_keeps_the_projection(
    shared_touchline: Touchline, pool: asyncpg.Pool, shared_store: StoreClient
) -> None:
    lease = timedelta(seconds=1.5)  # shorter ones run out on a busy machine
    slow, idle = Ledger(), Ledger()
    slow.after.clear()
    await tell(shared_touchline, 3)
    async with runner_of(slow, pool, shared_store, lease) as one:
        await slow.written.wait()
        async with runner_of(idle, pool, shared_store, lease) as other:
            await asyncio.sleep(2.5)  # a lease, and then two tries of the other to take it
            slow.after.set()
            last = await tell(shared_touchline, 2)
            await reaches(one, last)

            assert (one.checkpoint.epoch, other.checkpoint.epoch) == (1, 0)
    assert not idle.started.is_set()
    assert await ledger_of(pool) == up_to(last)


async def test_given_a_process_that_died_then_another_takes_over_when_its_lease_ends(
    shared_touchline: Touchline, pool: asyncpg.Pool, shared_store: StoreClient
) -> None:
    lease = timedelta(seconds=1)
    async with runner_of(Ledger(), pool, shared_store, lease) as dead:
        await reaches(dead, await tell(shared_touchline, 2))
    async with runner_of(Ledger(), pool, shared_store, lease) as heir:
        last = await tell(shared_touchline, 2)
        await reaches(heir, last)
        assert heir.checkpoint.epoch == dead.checkpoint.epoch + 1
    assert await ledger_of(pool) == up_to(last)


async def test_given_a_process_that_stops_in_order_then_another_takes_over_at_once(
    shared_touchline: Touchline, pool: asyncpg.Pool, shared_store: StoreClient
) -> None:
    lease = timedelta(days=1)
    async with runner_of(Ledger(), pool, shared_store, lease) as leaver:
        await reaches(leaver, await tell(shared_touchline))
    await leaver.stop()
    async with runner_of(Ledger(), pool, shared_store, lease) as heir:
        await reaches(heir, await tell(shared_touchline))


async def test_given_tables_of_another_version_of_the_fold_then_it_halts_and_says_what_to_do(
    shared_touchline: Touchline, pool: asyncpg.Pool, shared_store: StoreClient
) -> None:
    async with runner_of(Ledger(), pool, shared_store) as old:
        last = await tell(shared_touchline)
        await reaches(old, last)
    await old.stop()
    newer = Ledger()
    newer.fold_version = 2
    async with runner_of(newer, pool, shared_store) as runner:
        await until(lambda: runner.state.state == HALTED)
    assert "no generation of version 2" in runner.state.halt_reason
    assert await ledger_of(pool) == up_to(last)
