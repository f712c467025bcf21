"""What PostgreSQL itself can take: the same rows by bare COPY into a table of the same form."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg

from tests.bench.worker import Result, Spec, Tell


@asynccontextmanager
async def copy(spec: Spec, _: Tell) -> AsyncIterator[Callable[[], Awaitable[Result]]]:
    """Copy rows of a table, by position, into its copy with the same indexes.

    Spec: database, table, after, up_to, empty (whether to empty the copy first), settings, batch
    (rows of one COPY and transaction; default: all).
    """
    table, target = spec["table"], f"{spec['table']}_copied"
    connection = await asyncpg.connect(spec["database"], server_settings=spec.get("settings", {}))
    try:
        await connection.execute(
            f"CREATE TABLE IF NOT EXISTS {target} (LIKE {table} INCLUDING ALL)"
        )
        if spec.get("empty"):
            await connection.execute(f"TRUNCATE {target}")
        rows = await connection.fetch(
            f"SELECT * FROM {table} WHERE position > $1 AND position <= $2 ORDER BY position",
            *(spec["after"], spec["up_to"]),
        )
        columns = list(rows[0].keys())
        records = [tuple(row) for row in rows]
        size = spec.get("batch", len(records))
        batches = [records[start : start + size] for start in range(0, len(records), size)]

        async def work() -> Result:
            began = time.perf_counter()
            for batch in batches:
                await connection.copy_records_to_table(target, records=batch, columns=columns)
            return {"seconds": time.perf_counter() - began, "rows": len(records)}

        yield work
    finally:
        await connection.close()
