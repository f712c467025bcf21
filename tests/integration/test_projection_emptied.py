"""A database that folds anew is emptied of every generation, once, whoever folds meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from libs.postgres.pool import open_pool
from libs.projection.checkpoints import FoldsAnew, Ownership, read_folding, read_ranges
from libs.projection.generations.generation import Generation, schema_of
from libs.projection.generations.records import generations, introduce
from libs.projection.partitions import ALL
from libs.projection.restored import emptied_to_fold_anew
from tests.projecting import build_ledger, ledger_of
from tests.servers import MakeDatabase


@pytest.fixture
async def url(database_from_template: MakeDatabase) -> str:
    """A database in which a Ledger can write."""
    return await database_from_template(build_ledger)


@pytest.fixture
async def pool(url: str) -> AsyncIterator[asyncpg.Pool]:
    """Connections to it."""
    async with open_pool(url, application="emptied") as pool:
        yield pool


async def two_generations(pool: asyncpg.Pool) -> Generation:
    """Begins one in public and one beside it, each with an entry, and returns the one beside."""
    await introduce(pool, "ledger", 1)
    number = await pool.fetchval(
        "INSERT INTO projection_generations (projection, fold_version, schema_name, state) "
        "VALUES ('ledger', 1, '', 'following') RETURNING id"
    )
    schema = schema_of(number)
    await pool.execute(
        "UPDATE projection_generations SET schema_name = $1 WHERE id = $2", schema, number
    )
    await pool.execute(
        "INSERT INTO projection_checkpoints (projection, generation) VALUES ('ledger', $1)",
        number,
    )
    await pool.execute(f"CREATE SCHEMA {schema}")
    await pool.execute(f"CREATE TABLE {schema}.ledger (LIKE public.ledger INCLUDING ALL)")
    for table in ("public.ledger", f"{schema}.ledger"):
        await pool.execute(f"INSERT INTO {table} VALUES (1)")
    return (await generations(pool))[-1]


async def fold_anew(pool: asyncpg.Pool, folding: int) -> None:
    """Ends as a process does that finds itself on no line any more."""
    with pytest.raises(FoldsAnew):
        async with emptied_to_fold_anew(pool, ["ledger"]):
            raise FoldsAnew("the test wants it", folding)


async def schemas(pool: asyncpg.Pool) -> list[str]:
    rows = await pool.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'generation%'")
    return [row["nspname"] for row in rows]


async def test_given_generations_beside_public_then_all_are_emptied_and_their_schemas_go(
    url: str, pool: asyncpg.Pool
) -> None:
    beside = await two_generations(pool)
    assert await schemas(pool) == [beside.schema]
    # Also by a process whose connections find the tables of that generation first.
    reading = {"search_path": beside.search_path}
    async with open_pool(url, application="reads", settings=reading) as reads:
        await fold_anew(reads, 0)
    assert await schemas(pool) == []
    assert (await generations(pool), await read_ranges(pool), await ledger_of(pool)) == ([], [], [])
    assert await read_folding(pool) == 1


async def test_given_two_processes_then_what_the_first_began_anew_stays(
    pool: asyncpg.Pool,
) -> None:
    await two_generations(pool)
    await fold_anew(pool, 0)
    beside = await two_generations(pool)
    await fold_anew(pool, 0)  # it knew of no folding but the first
    assert await schemas(pool) == [beside.schema]
    assert await ledger_of(pool) == [1]


async def test_given_a_process_in_the_middle_of_a_transaction_then_it_ends_too_and_writes_nothing(
    pool: asyncpg.Pool,
) -> None:
    beside = await two_generations(pool)
    ownership = Ownership(pool, beside, ALL, uuid4())
    claimed = await ownership.claim()
    assert claimed
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(f"INSERT INTO {beside.schema}.ledger VALUES (2)")
        emptying = asyncio.create_task(fold_anew(pool, 0))
        await asyncio.sleep(0.2)
        assert not emptying.done()
    await emptying
    assert not await ownership.renew(claimed.epoch)
    with pytest.raises(FoldsAnew, match="another process emptied its tables"):
        await ownership.claim()
