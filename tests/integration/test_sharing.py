"""Processes share folding: each event is folded once, whoever joins, leaves or dies.

Invariants 6 and 7.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.postgres.pool import open_pool
from libs.projection.waiting import Paused
from libs.tasks import running
from tests.customers import new_email, record, told
from tests.given import note
from tests.projecting import build_ledger, ledger_of, up_to
from tests.servers import MakeDatabase
from tests.services import Touchline
from tests.sharing import Member, all_of, everything, folds, member, shared_by
from tests.waiting import until

NAMES = ("ledger", "timeline", "consents", "identity_graph")
TAKEN_OVER_SECONDS = 10.0


@pytest.fixture
async def url(database_from_template: MakeDatabase) -> str:
    """A database in which a Ledger can write."""
    return await database_from_template(build_ledger)


@pytest.fixture
async def pool(url: str) -> AsyncIterator[asyncpg.Pool]:
    """Connections to it that find what is in public."""
    async with open_pool(url, application="looks") as pool:
        yield pool


@pytest.fixture
async def store(touchline: Touchline) -> AsyncIterator[StoreClient]:
    """The store's API, as a service sees it."""
    async with connect_nats(touchline.nats.service_url, "shares") as connection:
        yield StoreClient(connection, timeout=2.0)


async def tell(touchline: Touchline, customers: int = 1) -> int:
    """Records a note of each of some new customers, and returns the last position."""
    events = [told(note("2024-03-01", "Called"), new_email()) for _ in range(customers)]
    return await record(touchline.client, *events)


async def shared(*members: Member, parts: int) -> None:
    """Returns once some members have everything between them, in so many parts."""

    def is_shared() -> bool:
        for one in members:
            one.check()
        theirs = [shared_by(one) for one in members]
        together = set().union(*theirs)
        return together == everything(parts) and sum(map(len, theirs)) == len(together)

    await until(is_shared)


async def test_given_one_process_then_it_folds_everything_and_begins_at_once(
    touchline: Touchline, url: str, store: StoreClient
) -> None:
    last = await tell(touchline, 3)
    began = time.monotonic()
    async with member(url, store) as one:
        await one.checkpoints.wait(NAMES, last, 10.0)
        assert time.monotonic() - began < 3
        assert shared_by(one) == everything()


async def test_given_a_second_process_then_both_share_and_each_event_is_folded_once(
    touchline: Touchline, url: str, store: StoreClient, pool: asyncpg.Pool
) -> None:
    await tell(touchline, 20)
    async with member(url, store) as one:
        await shared(one, parts=1)
        async with member(url, store) as other:
            await shared(one, other, parts=2)
            assert len(shared_by(one)) == len(shared_by(other)) == 3
            last = await tell(touchline, 40)
            for each in (one, other):
                await each.checkpoints.wait(NAMES, last, 10.0)
            assert await ledger_of(pool) == up_to(last)
        # It left in order: nobody waits for its leases.
        left = time.monotonic()
        await shared(one, parts=1)
        assert time.monotonic() - left < 5
        last = await tell(touchline, 5)
        await one.checkpoints.wait(NAMES, last, 10.0)
    assert await ledger_of(pool) == up_to(last)


async def test_given_a_process_that_is_killed_then_the_others_have_its_ranges_within_ten_seconds(
    touchline: Touchline, url: str, store: StoreClient, pool: asyncpg.Pool
) -> None:
    async with member(url, store) as one, member(url, store) as other:
        await shared(one, other, parts=2)
        await tell(touchline, 20)
        await other.kill()
        last = await tell(touchline, 20)
        killed = time.monotonic()
        await one.checkpoints.wait(NAMES, last, TAKEN_OVER_SECONDS)
        assert time.monotonic() - killed < TAKEN_OVER_SECONDS
        assert await ledger_of(pool) == up_to(last)
        await shared(one, parts=1)


async def test_given_processes_that_come_and_go_under_load_then_nothing_is_missing_or_doubled(
    touchline: Touchline, url: str, store: StoreClient, pool: asyncpg.Pool
) -> None:
    last = 0

    async def load() -> None:
        nonlocal last
        while True:
            last = await tell(touchline, 5)

    async with member(url, store) as one:
        async with running(load()):
            for end in ("leave", "kill", "leave"):
                async with member(url, store) as second, member(url, store) as third:
                    await until(lambda: bool(shared_by(third)))
                    await asyncio.sleep(0.5)
                    await getattr(third, end)()
                    await asyncio.sleep(0.2)
                    second.check()
        last = (await store.head()).position  # the last answer may have been cut off
        await one.checkpoints.wait(NAMES, last, 2 * TAKEN_OVER_SECONDS)
        assert await ledger_of(pool) == up_to(last)
        rows = await pool.fetch("SELECT position FROM timeline ORDER BY position")
        assert [row["position"] for row in rows] == up_to(last)
        await shared(one, parts=1)


async def test_given_a_range_that_is_split_then_a_wait_knows_of_both_halves(
    touchline: Touchline, url: str, store: StoreClient
) -> None:
    reader = [one for one in folds() if one.name == "ledger"]
    async with member(url, store, reader) as one:
        last = await tell(touchline)
        await one.checkpoints.wait(("ledger",), last, 10.0)
        async with member(url, store, reader) as other:
            await until(lambda: shared_by(one) | shared_by(other) == all_of("ledger", 2))
            for _ in range(20):
                last = await tell(touchline)
                for each in (one, other):
                    await each.checkpoints.wait(("ledger",), last, 10.0)
                    found = "SELECT count(*) FROM ledger WHERE position = $1"
                    assert await each.pool.fetchval(found, last) == 1


async def test_given_a_paused_projection_then_nobody_folds_it_and_waits_end_at_once(
    touchline: Touchline, url: str, store: StoreClient, pool: asyncpg.Pool
) -> None:
    async with member(url, store) as one, member(url, store) as other:
        await shared(one, other, parts=2)
        before = await tell(touchline, 3)
        for each in (one, other):
            await each.checkpoints.wait(NAMES, before, 10.0)
        await pool.execute("INSERT INTO projection_pauses VALUES ('timeline', 'a look at it')")
        await pool.execute("SELECT pg_notify('touchline_generations', '')")
        rest = everything(2) - all_of("timeline", 2)
        await until(lambda: shared_by(one) | shared_by(other) == rest)

        after = await tell(touchline, 3)
        for each in (one, other):
            began = time.monotonic()
            with pytest.raises(Paused) as paused:
                await each.checkpoints.wait(NAMES, after, 10.0)
            assert paused.value.projection == "timeline"
            assert time.monotonic() - began < 5
            await each.checkpoints.wait(["timeline"], before, 0.0)  # what there is can be read
            await each.checkpoints.wait(["ledger"], after, 10.0)

        await pool.execute("DELETE FROM projection_pauses")
        await pool.execute("SELECT pg_notify('touchline_generations', '')")
        for each in (one, other):
            await each.checkpoints.wait(NAMES, after, 10.0)


async def test_given_a_projection_that_is_removed_then_it_is_free_and_can_be_added_again(
    touchline: Touchline, url: str, store: StoreClient, pool: asyncpg.Pool
) -> None:
    free = (
        "SELECT leased_until < clock_timestamp() FROM projection_checkpoints "
        "WHERE projection = 'ledger'"
    )
    async with member(url, store) as one:
        await shared(one, parts=1)
        ledger = one.crew.projections["ledger"]
        await one.crew.remove("ledger")
        assert await pool.fetchval(free)
        assert {runner.projection.name for runner in one.crew.runners} == {*NAMES} - {"ledger"}
        one.crew.add(ledger)
        last = await tell(touchline)
        await one.checkpoints.wait(NAMES, last, 10.0)
