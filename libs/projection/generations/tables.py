"""Makes, indexes and drops the tables of generations."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import asyncpg

from libs.postgres.queries import load_queries
from libs.projection.generations.generation import PUBLIC, Generation
from libs.projection.projection import Connection, Table

_AT_ONCE: Final = 10_000
# Whoever reads a table that goes has a moment to end; behind the one that waits others queue.
_LOCK_TIMEOUT: Final = "2s"
_VACUUMED: Final = "autovacuum_enabled"
_INDEXING: Final = ("maintenance_work_mem = '128MB'", "max_parallel_maintenance_workers = 2")
_SQL: Final = load_queries(Path(__file__).with_name("tables.sql"))


async def make(connection: Connection, generation: Generation, tables: Iterable[Table]) -> None:
    """Make a generation's schema, with empty tables like those of public, in a transaction.

    Those that are only added to get their indexes by `index`, once they are filled. Until then they
    are not vacuumed: nothing in them is dead, and whoever vacuums is in the way of the indexes.
    """
    await connection.execute(f"CREATE SCHEMA {generation.schema}")
    for table in tables:
        without = " EXCLUDING INDEXES" if table.append_only else ""
        unvacuumed = f" WITH ({_VACUUMED} = off)" if table.append_only else ""
        await connection.execute(
            f"CREATE TABLE {generation.schema}.{table.name} "
            f"(LIKE {PUBLIC}.{table.name} INCLUDING ALL{without}){unvacuumed}"
        )


async def index(connection: Connection, generation: Generation, tables: Iterable[Table]) -> None:
    """Make the indexes that the tables of public have and a generation's lack, in a transaction.

    With them come statistics, and from then on PostgreSQL looks after the tables by itself.
    """
    for setting in _INDEXING:
        await connection.execute(f"SET LOCAL {setting}")
    for table in tables:
        name = f"{generation.schema}.{table.name}"
        if not table.append_only or await connection.fetchval(_SQL["has_primary_key"], name):
            continue
        rows = await connection.fetch(_SQL["indexes"], f"{PUBLIC}.{table.name}")
        for definition, constraint in rows:
            if constraint is not None:
                await connection.execute(f"ALTER TABLE {name} ADD {constraint}")
            else:
                await connection.execute(
                    definition.replace(f" ON {PUBLIC}.{table.name} ", f" ON {name} ", 1)
                )
        await connection.execute(f"ALTER TABLE {name} RESET ({_VACUUMED})")
        await connection.execute(f"ANALYZE {name}")


async def drop(pool: asyncpg.Pool, generation: Generation, tables: Iterable[Table]) -> None:
    """Drop a generation's tables; of one in public, whose tables others copy, the rows.

    Raises:
        asyncpg.LockNotAvailableError: somebody reads it; nothing was dropped, come again later.
    """
    if generation.schema != PUBLIC:
        async with pool.acquire() as connection, connection.transaction():
            await drop_schema(connection, generation.schema)
        return
    for table in tables:
        await _empty(pool, table)


async def drop_schema(connection: Connection, schema: str) -> None:
    """Drop the schema of a generation, in a transaction."""
    await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
    await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


async def schemas(connection: Connection) -> list[str]:
    """Return the schemas of generations that there are, whether or not a row tells of them."""
    return [row["name"] for row in await connection.fetch(_SQL["schemas"])]


async def _empty(pool: asyncpg.Pool, table: Table) -> None:
    name = f"{PUBLIC}.{table.name}"
    if table.rows == "true":
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
            await connection.execute(f"TRUNCATE {name}")
        return
    # Others have rows there: in parts, so that no transaction is long.
    part = f"SELECT ctid FROM {name} WHERE {table.rows} LIMIT {_AT_ONCE}"  # noqa: S608 - our own names
    deleted = ""
    while deleted != "DELETE 0":
        deleted = await pool.execute(f"DELETE FROM {name} WHERE ctid = ANY (ARRAY({part}))")  # noqa: S608
