"""What PostgreSQL itself can take: the same rows by bare COPY into a table of the same form."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from tests.bench.worker import Result, Spec, Tell, worker


@dataclass(frozen=True, slots=True)
class Copied:
    """How many rows were copied, and in how many seconds."""

    rows: int
    seconds: float

    @property
    def speed(self) -> float:
        """Rows/s."""
        return self.rows / self.seconds


async def copied(database: str, table: str, after: int, up_to: int, **more: Any) -> Copied:
    """Copy a table's rows between two positions in a process of its own.

    Args:
        database: The URL of the table's database.
        table: Its name.
        after: The position before the first row.
        up_to: The position of the last.
        more: What else `copy` may be told.
    """
    spec = {"database": database, "table": table, "after": after, "up_to": up_to, **more}
    async with worker("copy", spec) as copier:
        told = await copier.result()
    return Copied(told["rows"], told["seconds"])


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
