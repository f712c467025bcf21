"""A generation's tables are those of public, and go without a trace of it elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from libs.postgres.pool import open_pool
from libs.projection.consents import Consents
from libs.projection.generations import switching, tables
from libs.projection.generations.generation import Generation
from libs.projection.generations.records import introduce, serving
from libs.projection.identity_graph import IdentityGraph
from libs.projection.projection import Projection, Table
from libs.projection.timeline import Timeline
from libs.tasks import running
from tests.aggregates import Lent
from tests.generating import comes, desk, new_line, refused, tell
from tests.projecting import Ledger, build_ledger, ledger_of, up_to
from tests.servers import MakeDatabase, SharedPostgres

CUSTOMERS = [f"{number}@tables.example" for number in range(30)]
COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attstorage,
        a.attcompression, a.attcollation, pg_get_expr(d.adbin, d.adrelid)
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
CONSTRAINTS = """
    SELECT contype, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid = to_regclass($1) ORDER BY 1, 2"""
INDEXES = """
    SELECT replace(pg_get_indexdef(indexrelid), $2, ''), indisprimary, indisunique
    FROM pg_index WHERE indrelid = to_regclass($1)"""


class Added(Timeline):
    """A timeline that gets its indexes once it is filled."""

    tables = (
        Table("timeline", append_only=True),
        Table("timeline_retractions", append_only=True),
    )

    def copy(self) -> Added:
        """The same fold."""
        return Added()


@pytest.fixture
async def pool(database_from_template: MakeDatabase) -> AsyncIterator[asyncpg.Pool]:
    """Connections to a database in which a Ledger can write."""
    async with open_pool(await database_from_template(build_ledger), application="tables") as pool:
        yield pool


@pytest.fixture(scope="module")
async def lent(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Lent]:
    """A line that the tests of this module share."""
    async with new_line(servers, tmp_path_factory) as line:
        await tell(line, *CUSTOMERS)
        yield line


async def form_of(pool: asyncpg.Pool, schema: str, table: Table) -> list[Any]:
    """All that there is to a table but its rows and its indexes' names."""
    name = f"{schema}.{table.name}"
    indexes = [
        (row[0].partition(" USING ")[2], *row[1:])
        for row in await pool.fetch(INDEXES, name, f"{schema}.")
    ]
    return [
        await pool.fetchval("SELECT reloptions FROM pg_class WHERE oid = $1::regclass", name),
        [tuple(row) for row in await pool.fetch(COLUMNS, name)],
        [tuple(row) for row in await pool.fetch(CONSTRAINTS, name)],
        sorted(indexes),
    ]


@pytest.mark.parametrize("fold", [Timeline(), Added(), IdentityGraph(), Consents()])
async def test_given_a_generation_then_its_tables_are_in_every_way_those_of_public(
    pool: asyncpg.Pool, fold: Projection
) -> None:
    begun = await switching.begin(pool, fold)
    for _ in range(2):  # again, as by a worker that takes over
        async with pool.acquire() as connection, connection.transaction():
            await tables.index(connection, begun, fold.tables)
    for table in fold.tables:
        public = await form_of(pool, "public", table)
        assert await form_of(pool, begun.schema, table) == public
        assert public[1]


async def test_given_tables_that_are_only_added_to_then_they_have_no_index_before_they_are_filled(
    pool: asyncpg.Pool,
) -> None:
    begun = await switching.begin(pool, Added())
    for table in Added.tables:
        assert await pool.fetch(INDEXES, f"{begun.schema}.{table.name}", "") == []
        # Nor does anybody vacuum them, who would be in the way of making one.
        assert (await form_of(pool, begun.schema, table))[0] == ["autovacuum_enabled=off"]


async def test_given_a_worker_that_dies_as_it_indexes_then_nothing_is_made_and_it_is_done_again(
    database_from_template: MakeDatabase, lent: Lent
) -> None:
    url = await database_from_template(build_ledger)
    async with desk(url, lent.client, [Timeline()]) as found:
        await found.reached(len(CUSTOMERS), "timeline")
        begun = await switching.begin(found.pool, Added())
        in_the_way = await asyncpg.connect(url)
        stands_in_the_way = in_the_way.transaction()
        await stands_in_the_way.start()
        await in_the_way.execute(f"LOCK TABLE {begun.schema}.timeline IN ROW EXCLUSIVE MODE")
        async with running(found.fill(begun.id, Added())):
            for _ in range(2):
                await comes(lambda: _dies(found.pool))
                assert (await found.generation(begun.id)).state == "filling"
                assert await found.pool.fetch(INDEXES, f"{begun.schema}.timeline", "") == []
            await stands_in_the_way.rollback()
            await in_the_way.close()
            await found.watch("timeline")
        assert await form_of(found.pool, begun.schema, Added.tables[0]) == await form_of(
            found.pool, "public", Added.tables[0]
        )
        assert [one.differing_rows for one in (await found.compare("timeline")).tables] == [0] * 3


async def _dies(pool: asyncpg.Pool) -> bool:
    """Ends the connection that is about to make an index; whether there was one."""
    found = await pool.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND query ~ '^(CREATE (UNIQUE )?INDEX|ALTER TABLE generation)'"
    )
    return bool(found)


async def test_given_a_generation_in_public_then_dropping_it_leaves_the_tables_to_copy(
    database_from_template: MakeDatabase, lent: Lent
) -> None:
    url = await database_from_template(build_ledger)
    async with desk(url, lent.client, [Ledger()]) as found:
        last = await tell(lent, *CUSTOMERS[:3])
        await found.reached(last, "ledger")
        ((first,),) = await found.pool.fetch("SELECT id FROM projection_generations")
        second = await found.rebuilt(Ledger())
        await found.compare("ledger")
        await found.switch("ledger")
        await found.drop("ledger", first)
        assert await ledger_of(found.pool) == []
        # Public stays what new ones are made like.
        last = await tell(lent, *CUSTOMERS[:3])
        third = await found.rebuilt(Ledger())
        assert third > second
        compared = await found.compare("ledger")
        assert [one.live_rows for one in compared.tables] == [compared.position, 0]
        assert [one.differing_rows for one in compared.tables] == [0, 0]


async def test_given_a_switch_a_moment_ago_then_dropping_waits_until_every_process_has_heard_of_it(
    database_from_template: MakeDatabase, lent: Lent
) -> None:
    url = await database_from_template(build_ledger)
    async with desk(url, lent.client, [Ledger()]) as found:
        await found.reached(len(CUSTOMERS), "ledger")
        await found.rebuilt(Ledger())
        await found.compare("ledger")
        first = (await found.switch("ledger")).previous
        retired_at = (await found.generation(first)).retired_at
        await found.drop("ledger", first)
        dropped_at = await found.pool.fetchval("SELECT clock_timestamp()")
        assert dropped_at - retired_at >= timedelta(seconds=3)


async def test_given_a_table_that_others_have_rows_in_then_only_its_own_are_deleted_in_parts(
    pool: asyncpg.Pool,
) -> None:
    class Even(Ledger):
        tables = (Table("ledger", "position % 2 = 0"),)

    await pool.execute("INSERT INTO ledger SELECT generate_series(1, 45000)")
    first = await introduced(pool, Even())
    await pool.execute("UPDATE projection_generations SET state = 'retired'")
    assert await switching.drop(pool, first, Even.tables)
    assert await ledger_of(pool) == list(range(1, 45000, 2))
    assert await pool.fetch("SELECT FROM projection_generations") == []


async def test_given_somebody_who_reads_then_dropping_waits_a_moment_and_is_refused(
    database_from_template: MakeDatabase, lent: Lent
) -> None:
    url = await database_from_template(build_ledger)
    async with desk(url, lent.client, [Ledger()]) as found:
        await found.reached(len(CUSTOMERS), "ledger")
        second = await found.rebuilt(Ledger())
        await found.compare("ledger")
        first = (await found.switch("ledger")).previous
        reader = await asyncpg.connect(url)
        reads = reader.transaction()
        await reads.start()
        await reader.fetch("SELECT * FROM public.ledger LIMIT 1")
        error = await refused(found.drop("ledger", first))
        assert error.reason == "GENERATION_NOT_READY"
        assert "Somebody reads its tables just now. Try again." in str(error)
        # It is half gone: nobody can go back to it, whatever its state is.
        error = await refused(found.roll_back("ledger"))
        assert "One of them was dropped" in str(error)
        assert (await found.generation(second)).state == "serving"
        await reads.rollback()
        await reader.close()
        await found.drop("ledger", first)
        last = await tell(lent, *CUSTOMERS[:3])
        await found.reached(last, "ledger")
        rows = await found.process.pool.fetch("SELECT position FROM ledger ORDER BY 1")
        assert [row["position"] for row in rows] == up_to(last)


async def test_given_a_generation_that_is_given_up_then_it_is_told_until_the_next_of_its_version(
    pool: asyncpg.Pool,
) -> None:
    class Newer(Ledger):
        fold_version = 2

    for fold in (Ledger(), Newer()):
        begun = await switching.begin(pool, fold)
        assert await switching.fail(pool, begun.id, "the disk is full")
        async with pool.acquire() as connection:
            assert not await switching.follow(connection, begun.id)
    again = await switching.begin(pool, Ledger())
    rows = await pool.fetch(
        "SELECT fold_version, state, failure FROM projection_generations ORDER BY fold_version"
    )
    # The other one stays: a release does not try what failed again by itself.
    assert [tuple(row) for row in rows] == [
        (1, "filling", ""),
        (2, "failed", "the disk is full"),
    ]
    async with pool.acquire() as connection:
        assert await tables.schemas(connection) == [again.schema]


async def introduced(pool: asyncpg.Pool, fold: Projection) -> Generation:
    """The first generation of a projection."""
    await introduce(pool, fold.name, fold.fold_version)
    found = await serving(pool, fold.name, fold.fold_version)
    assert found is not None
    return found


async def test_given_two_who_begin_at_once_then_one_generation_is_begun(
    pool: asyncpg.Pool,
) -> None:
    asked = [switching.begin(pool, Ledger(), 4) for _ in range(5)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    (begun,) = [one for one in answers if isinstance(one, Generation)]
    refusals = [one for one in answers if isinstance(one, switching.UnderWay)]
    assert [one.generation for one in refusals] == [begun.id] * 4
    ranges = await pool.fetch("SELECT first_partition, last_partition FROM projection_checkpoints")
    assert sorted(map(tuple, ranges)) == [(0, 15), (16, 31), (32, 47), (48, 63)]
