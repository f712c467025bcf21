"""Has PostgreSQL clear away the rows that an erasure deleted, instead of some day."""

import asyncio
from typing import Final

import asyncpg
import structlog

from libs.postgres.pool import UNREACHABLE

_TABLES: Final = ("data_keys", "event_keys", "rejected_events")
_PAUSE_SECONDS: Final = 10.0
_log = structlog.get_logger("ingestion")


async def sweep(database_url: str) -> None:
    """Vacuum what erasures delete from; the login must own the tables, as who migrates them does.

    Raises:
        OSError, asyncpg.PostgresError: the database can't be reached, or does not do it.
    """
    connection = await asyncpg.connect(database_url)
    try:
        for table in _TABLES:
            await connection.execute(f"VACUUM (TRUNCATE false) {table}")
    finally:
        await connection.close()


async def sweep_after(erased: asyncio.Event, database_url: str) -> None:
    """Sweep soon after each erasure, for ever; those that come in the meantime share the next."""
    while True:
        await erased.wait()
        erased.clear()
        try:
            await sweep(database_url)
        except (asyncpg.PostgresError, *UNREACHABLE) as error:
            _log.warning("could not sweep after an erasure", error=type(error).__name__)
            erased.set()
        await asyncio.sleep(_PAUSE_SECONDS)
