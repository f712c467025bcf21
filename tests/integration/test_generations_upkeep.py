"""Tables that are being filled have statistics, and rows that need not be marked later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from libs.postgres.pool import open_pool
from libs.projection.generations import switching
from libs.projection.generations.generation import Generation
from libs.projection.generations.upkeep import Upkeep
from libs.projection.projection import Table
from tests.projecting import Ledger, build_ledger
from tests.servers import MakeDatabase

ROWS = 2_000
COMMITTED = 0x0100  # HEAP_XMIN_COMMITTED
MARKED = f"""
    SELECT count(*) FILTER (WHERE t_infomask & {COMMITTED} > 0), count(*)
    FROM heap_page_items(get_raw_page($1, $2))"""


class Read(Ledger):
    """A fold that also reads its table."""


class Added(Ledger):
    """A fold that only adds to its table."""

    tables = (Table("ledger", append_only=True),)


@pytest.fixture
async def pool(database_from_template: MakeDatabase) -> AsyncIterator[asyncpg.Pool]:
    """Connections to a database in which a Ledger can write, as those that fold."""
    url, settings = await database_from_template(build_ledger), {"synchronous_commit": "off"}
    async with open_pool(url, application="upkeep", settings=settings) as pool:
        yield pool


async def fill(pool: asyncpg.Pool, generation: Generation, transaction: int) -> None:
    """Writes what one transaction folds."""
    first = transaction * ROWS + 1
    await pool.execute(
        f"INSERT INTO {generation.schema}.ledger (position) "
        f"SELECT generate_series({first}, {first + ROWS - 1})"
    )


async def rows_planned_for(pool: asyncpg.Pool, generation: Generation) -> float:
    """How many rows the planner takes a table to have; -1 when it was never told."""
    known: float = await pool.fetchval(
        "SELECT reltuples FROM pg_class WHERE oid = to_regclass($1)", f"{generation.schema}.ledger"
    )
    return known


async def marked_in(pool: asyncpg.Pool, table: str, page: int) -> tuple[int, int]:
    """How many rows of a page are marked as committed, and how many it has."""
    row: Any = await pool.fetchrow(MARKED, table, page)
    return tuple(row)


async def test_given_twice_as_many_rows_then_statements_are_planned_for_them(
    pool: asyncpg.Pool,
) -> None:
    fold = Read()
    generation = await switching.begin(pool, fold)
    upkeep = Upkeep(pool, generation, fold.tables)
    planned = [await rows_planned_for(pool, generation)]
    for transaction in range(5):
        await fill(pool, generation, transaction)
        await upkeep.filled()
        planned.append(await rows_planned_for(pool, generation))
    assert planned == [-1, ROWS, 2 * ROWS, 2 * ROWS, 4 * ROWS, 4 * ROWS]


async def test_given_rows_that_are_committed_for_a_while_then_they_are_marked(
    pool: asyncpg.Pool,
) -> None:
    fold = Added()
    await pool.execute("CREATE EXTENSION pageinspect")
    generation = await switching.begin(pool, fold)
    name = f"{generation.schema}.ledger"
    async with Upkeep(pool, generation, fold.tables) as upkeep:
        for transaction in range(5):
            await fill(pool, generation, transaction)
            await upkeep.filled()
            await upkeep.marked()
    pages = await pool.fetchval("SELECT pg_relation_size(to_regclass($1)) / 8192", name)
    marked, rows = await marked_in(pool, name, pages * 2 // 5)
    assert marked == rows > 0
    marked, rows = await marked_in(pool, name, pages - 1)
    assert marked == 0 < rows  # PostgreSQL would not have done it by itself


async def test_given_a_generation_that_is_dropped_meanwhile_then_nothing_is_done(
    pool: asyncpg.Pool,
) -> None:
    for fold in (Read(), Added()):
        generation = await switching.begin(pool, fold)
        upkeep = Upkeep(pool, generation, fold.tables)
        for transaction in range(3):
            await fill(pool, generation, transaction)
            await upkeep.filled()
        await switching.drop(pool, generation, fold.tables)
        for _ in range(4):
            await upkeep.filled()
            await upkeep.marked()
        assert await pool.fetchval("SELECT to_regnamespace($1)", generation.schema) is None
