"""Workers that fill generations are killed at random: the rows are those that are live."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import asyncpg
import pytest

from libs.eventstore.client import StoreClient
from libs.projection.generations import switching
from libs.projection.generations.generation import Generation
from libs.projection.generations.records import serving
from libs.projection.projection import Projection
from tests.faults.cluster import Cluster, open_cluster
from tests.faults.seeds import seeded
from tests.filling import fold_of, generation_named, rows_of, varied
from tests.store import DEFAULT
from touchline.client import Client
from touchline.ingestion.v1.ingestion_pb2 import OUTCOME_RECORDED

EVENTS = 40_000
# Names, tables and versions of folds are asked here, and nothing is opened.
_UNASKED = cast("StoreClient", None)
_BATCH = 1_000
_LOOK_SECONDS = 0.05
_MOST_SECONDS = 120.0
_FIRST_REACH_SECONDS = 1.0
_AT_WORK = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rebuild'"
_INDEXING = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'rebuild' AND wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE%'
"""


@asynccontextmanager
async def filled_cluster(home: Path) -> AsyncIterator[tuple[Cluster, asyncpg.Pool]]:
    """Gives ingestion and profile with events that are folded, and the views' database."""
    async with open_cluster(home, None, ("ingestion-a", "profile")) as cluster:
        addresses = cluster.addresses["ingestion-a"], cluster.addresses["profile"]
        async with Client.connect(*addresses) as client:
            events = varied(EVENTS, 4)
            for start in range(0, EVENTS, _BATCH):
                verdicts = await client.record(events[start : start + _BATCH])
                assert {one.outcome for one in verdicts} == {OUTCOME_RECORDED}, verdicts
        url = cluster.database("profile")
        async with asyncpg.create_pool(url, min_size=1, max_size=3) as pool:
            await until_caught_up(pool)
            yield cluster, pool


async def until_caught_up(pool: asyncpg.Pool) -> None:
    """Returns once every range of every generation is at the head."""
    query = "SELECT min(position) FROM projection_checkpoints"
    async with asyncio.timeout(_MOST_SECONDS):
        while await pool.fetchval(query) < EVENTS:  # noqa: ASYNC110 - other processes get there
            await asyncio.sleep(_LOOK_SECONDS)


def workers_of(cluster: Cluster) -> list[int]:
    """The processes that the profile service has started to fill generations."""
    parent, found = cluster.members["profile"].process.pid, []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            stat = (directory / "stat").read_text().rpartition(")")[2].split()
            told = (directory / "cmdline").read_bytes()
            if int(stat[1]) == parent and b"--rebuild" in told:
                found.append(int(directory.name))
    return found


async def at_work(pool: asyncpg.Pool, generation: Generation) -> bool:
    """Says, once a worker has opened its connections, yes; or no, once all is filled."""
    async with asyncio.timeout(_MOST_SECONDS):
        while not await pool.fetchval(_AT_WORK):
            if (await generation_named(pool, generation.id)).state != "filling":
                return False
            await asyncio.sleep(_LOOK_SECONDS)
        return True


async def killed_at_work(
    pool: asyncpg.Pool,
    cluster: Cluster,
    generation: Generation,
    chance: random.Random,
    reach: float,
) -> int:
    """Kills a worker twice or three times, each within `reach` seconds of its beginning.

    Returns how many of them still had something to do: fewer, the faster all is filled.
    """
    killed = 0
    for _ in range(chance.choice((2, 3))):
        if not await at_work(pool, generation):
            break
        await asyncio.sleep(chance.uniform(0, reach))
        if pids := workers_of(cluster):
            with suppress(ProcessLookupError):  # it ended by itself
                os.kill(chance.choice(pids), signal.SIGKILL)
            killed += (await generation_named(pool, generation.id)).state == "filling"
    return killed


async def until_filled(pool: asyncpg.Pool, generation: Generation) -> Generation:
    """A generation as it is once it follows."""
    async with asyncio.timeout(_MOST_SECONDS):
        found = await generation_named(pool, generation.id)
        while found.state == "filling":
            await asyncio.sleep(_LOOK_SECONDS)
            found = await generation_named(pool, generation.id)
    assert (found.state, found.failure) == ("following", "")
    return found


async def assert_like_the_live_one(
    pool: asyncpg.Pool, generation: Generation, fold: Projection
) -> None:
    await until_caught_up(pool)
    live = await serving(pool, fold.name, fold.fold_version)
    assert live is not None
    expected = await rows_of(pool, live, fold)
    assert await rows_of(pool, generation, fold) == expected
    assert any(expected.values())


@pytest.mark.timeout(600)
async def test_workers_that_are_killed_leave_the_rows_that_are_live(tmp_path: Path) -> None:
    chance = seeded("killed workers")
    async with filled_cluster(tmp_path) as (cluster, pool):
        for name, workers in (("timeline", 4), ("attributes", 2), ("identity_graph", 1)):
            fold = fold_of(name, _UNASKED, DEFAULT.tenant.number, DEFAULT.identity_keys)
            killed, reach = 0, _FIRST_REACH_SECONDS
            while not killed:  # a machine that filled all before is killed earlier
                generation = await switching.begin(pool, fold, workers)
                killed = await killed_at_work(pool, cluster, generation, chance, reach)
                found = await until_filled(pool, generation)
                await assert_like_the_live_one(pool, found, fold)
                await switching.drop(pool, found, fold.tables)
                reach /= 2


@pytest.mark.timeout(600)
async def test_a_worker_that_is_killed_while_it_makes_the_indexes_leaves_none(
    tmp_path: Path,
) -> None:
    fold = fold_of("timeline", _UNASKED, DEFAULT.tenant.number, DEFAULT.identity_keys)
    async with filled_cluster(tmp_path) as (cluster, pool):
        generation = await switching.begin(pool, fold, 2)
        async with pool.acquire() as connection:
            holding = connection.transaction()
            await holding.start()
            # Rows can be added beside this lock, and an index has to wait for it.
            await connection.execute(
                f"LOCK TABLE {generation.schema}.timeline IN ROW EXCLUSIVE MODE"
            )
            async with asyncio.timeout(_MOST_SECONDS):
                while not await pool.fetchval(_INDEXING):  # noqa: ASYNC110 - others get there
                    await asyncio.sleep(_LOOK_SECONDS)
            for pid in workers_of(cluster):
                os.kill(pid, signal.SIGKILL)
            assert await at_work(pool, generation)
            await holding.rollback()
        found = await until_filled(pool, generation)
        await assert_like_the_live_one(pool, found, fold)
