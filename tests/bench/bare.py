"""What PostgreSQL itself can take: a generation's rows by bare COPY, indexes made after."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from libs.projection.generations import tables
from libs.projection.generations.filling import SETTINGS
from libs.projection.generations.generation import Generation
from libs.projection.projection import Table

_SCHEMA: Final = "bench_copied"
_AT_ONCE: Final = 20_000
"""As many rows of a COPY as a filling transaction folds events."""


@dataclass(frozen=True, slots=True)
class Copied:
    """How many rows were copied, and in how many seconds."""

    rows: int
    seconds: float


async def bare_copy(url: str, generation: Generation, its: Sequence[Table]) -> Copied:
    """Copy a generation's rows into empty tables, and make their indexes.

    What is timed is COPY, and making the indexes: not how the rows are read.

    Args:
        url: The database.
        generation: Whose rows.
        its: Its projection's tables.
    """
    reading = await asyncpg.connect(url)
    writing = await asyncpg.connect(url, server_settings=SETTINGS)
    bare = [table._replace(append_only=True) for table in its]
    copy = generation._replace(schema=_SCHEMA)
    try:
        await writing.execute(f"DROP SCHEMA IF EXISTS {_SCHEMA} CASCADE")
        async with writing.transaction():
            await tables.make(writing, copy, bare)
        rows, seconds = 0, 0.0
        for table in bare:
            added, took = await _copied(reading, writing, generation, table)
            rows, seconds = rows + added, seconds + took
        began = time.perf_counter()
        async with writing.transaction():
            await tables.index(writing, copy, bare)
        seconds += time.perf_counter() - began
        await writing.execute(f"DROP SCHEMA {_SCHEMA} CASCADE")
    finally:
        await reading.close()
        await writing.close()
    return Copied(rows, seconds)


async def _copied(
    reading: asyncpg.Connection, writing: asyncpg.Connection, generation: Generation, table: Table
) -> tuple[int, float]:
    rows, seconds = 0, 0.0
    query = f"SELECT * FROM {generation.schema}.{table.name} WHERE {table.rows}"
    async with reading.transaction():
        cursor = await reading.cursor(query)
        while found := await cursor.fetch(_AT_ONCE):
            records, columns = [tuple(row) for row in found], list(found[0].keys())
            began = time.perf_counter()
            await writing.copy_records_to_table(
                table.name, schema_name=_SCHEMA, records=records, columns=columns
            )
            seconds += time.perf_counter() - began
            rows += len(records)
    return rows, seconds
