"""A disk that is full in the middle of a rebuild: it is given up, and what is live goes on."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from libs.embedded import create_database, database_url_for
from libs.embedded import postgres_server as postgres_servers
from libs.embedded.postgres_server import PostgresServer
from libs.projection.generations import switching
from libs.projection.generations.ahead import Sizes
from libs.projection.generations.worker import run_worker
from libs.projection.timeline import Timeline
from tests.aggregates import Lent, build_stores, lent_line
from tests.faults.disk import NO_SMALL_DISK, Disk, small_disk
from tests.filling import generation_named, live_generation, rows_of
from tests.servers import MakeDatabase, OwnNats, OwnPostgres
from tests.services import build_views, mint_store
from tests.store import said
from touchline.events.v1.event_pb2 import Event

EVENTS = 300
LEFT_KB = 3 * 1024
"""Less than the text of half of the events."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk that can be made full."""
    with small_disk(tmp_path / "disk") as found:
        if found is None:
            pytest.skip(NO_SMALL_DISK)
        yield found


@pytest.fixture
async def data_on_it(disk: Disk, tmp_path: Path) -> AsyncIterator[OwnPostgres]:
    """A PostgreSQL with its tables on that disk, and its log of changes elsewhere."""
    server = PostgresServer(
        data=disk.place / "postgres",
        password="p",
        log=tmp_path / "postgres.log",
        settings={"min_wal_size": "32MB", "shared_buffers": "16MB"},
    )
    own = OwnPostgres(*await postgres_servers.start_on_free_port(server))
    await own.stop()
    log = own.server.data / "pg_wal"
    shutil.move(log, tmp_path / "pg_wal")
    log.symlink_to(tmp_path / "pg_wal")
    await own.start()
    yield own
    await own.stop()


@pytest.fixture
async def lent(database_from_template: MakeDatabase, nats: OwnNats) -> AsyncIterator[Lent]:
    """A line of some large events, in a database on another disk."""
    url = await database_from_template(build_stores)
    await mint_store(url)
    async with lent_line(url, nats) as lent:
        for _ in range(EVENTS // 50):
            await lent.line.record(*large(50))
        yield lent


def large(count: int) -> list[Event]:
    """Notes of 20,000 characters each."""
    events = [said("x") for _ in range(count)]
    for event in events:
        event.note_added.text = "x" * 20_000
    return events


async def test_a_full_disk_ends_the_rebuild_alone(
    disk: Disk, data_on_it: OwnPostgres, lent: Lent
) -> None:
    await create_database(data_on_it.url, "views")
    url = database_url_for(data_on_it.url, "views")
    await build_views(url)
    fold = Timeline()

    async def projection(_: str) -> Timeline:
        return Timeline()

    async with asyncpg.create_pool(url, min_size=1, max_size=3) as pool:
        live = await live_generation(fold, pool, lent.client)
        before = await rows_of(pool, live, fold)
        generation = await switching.begin(pool, fold)
        disk.fill(LEFT_KB)
        await run_worker(
            *(generation.id, url, lent.client, projection, asyncio.Event(), {}),
            sizes=Sizes(events=20, near=0),
        )
        found = await generation_named(pool, generation.id)
        assert found.state == "failed"
        assert "disk is full" in found.failure
        assert not await pool.fetchval("SELECT to_regnamespace($1)", generation.schema)
        assert await rows_of(pool, live, fold) == before
        # What it had written is free again, and there is room for some more of the live one.
        await lent.line.record(*large(20))
        await live_generation(fold, pool, lent.client)
        assert len((await rows_of(pool, live, fold))["timeline"]) == EVENTS + 20
        disk.free()
        again = await switching.begin(pool, fold)
        await run_worker(
            *(again.id, url, lent.client, projection, asyncio.Event(), {}), sizes=Sizes(near=0)
        )
        assert await rows_of(pool, again, fold) == await rows_of(pool, live, fold)
