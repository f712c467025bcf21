"""Compares a generation with the one that answers: both at one position, in one snapshot."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

from libs.eventstore.client import StoreClient
from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries
from libs.projection.comparing import MAX_DIFFERENCES, compare_tables, erased_after
from libs.projection.generations.generation import Generation
from libs.projection.generations.meeting import NotMet, meeting
from libs.projection.projection import Connection, Table
from touchline.projection.v1.projection_pb2 import RowDifference, TableComparison

_SETTINGS: Final = {"application_name": "touchline compare", "jit": "off", "work_mem": "64MB"}
_CLOSE_SECONDS: Final = 5.0
# So often they are compared while customers are being erased.
_COMPARED: Final = 20
_FORGOTTEN_SECONDS: Final = 0.5
_PARKED: Final = "parked_keys"
_DROPPED: Final = "One of them was dropped. Look again."
_SQL: Final = load_queries(Path(__file__).with_name("comparing.sql"))


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far a comparison came, and what it found.

    Attributes:
        position: Where both stood.
        tables: How each table compares that was looked at, parked keys last.
        table_count: How many there are.
    """

    position: int
    tables: tuple[TableComparison, ...]
    table_count: int

    @property
    def finished(self) -> bool:
        """Whether everything was compared."""
        return len(self.tables) == self.table_count

    @property
    def differing_rows(self) -> int:
        """How many rows only one of them has, as far as it was looked."""
        return sum(table.differing_rows for table in self.tables)


async def compare(
    pool: asyncpg.Pool,
    database_url: str,
    store: StoreClient,
    serving: Generation,
    other: Generation,
    tables: Sequence[Table],
) -> AsyncGenerator[Comparison]:
    """Yield the state of a comparison after each table; the last one, and only that, is finished.

    The generations are held at one position until the snapshot is taken, some milliseconds, and
    then go on.

    Args:
        pool: Connections to their database.
        database_url: The same.
        store: Says whether somebody is being erased meanwhile: then they are compared again.
        serving: What answers.
        other: What is compared with it.
        tables: The projection's.

    Raises:
        NotMet: they did not come to one position, or one of them was dropped.
        StoreError: they differ, and the store can't say whether somebody is being erased.
    """
    for _ in range(_COMPARED):
        async with _snapshot(pool, database_url, serving, other, tables) as (connection, position):
            compared = list[TableComparison]()
            count = len(tables) + 1  # and what is parked
            yield Comparison(position, (), count)
            for table in tables:
                compared.append(
                    await compare_tables(connection, table, serving.schema, other.schema)
                )
                yield Comparison(position, tuple(compared), count)
            compared.append(await _compare_parked(connection, serving, other))
        found = Comparison(position, tuple(compared), count)
        if not found.differing_rows or not await erased_after(store, position):
            break
        # One of them could not open what the other is about to forget.
        await asyncio.sleep(_FORGOTTEN_SECONDS)
    yield found


@asynccontextmanager
async def _snapshot(
    pool: asyncpg.Pool,
    database_url: str,
    serving: Generation,
    other: Generation,
    tables: Sequence[Table],
) -> AsyncIterator[tuple[asyncpg.Connection, int]]:
    """Give a connection whose transaction sees both at one position, and that position."""
    both = [serving.id, other.id]
    connection = await asyncpg.connect(database_url, server_settings=_SETTINGS)
    try:
        async with connection.transaction(isolation="repeatable_read"):
            async with meeting(pool, both) as position:
                # The first query takes the snapshot.
                here: Any = await connection.fetchrow(_SQL["here"], both)
            if (here["lowest"], here["highest"]) != (position, position):
                raise NotMet("They went on before they could be looked at. Try again.")
            await _keep(connection, serving, other, tables)
            # What drops them forgets where they stood, and then empties what the snapshot has seen.
            if await pool.fetchval(_SQL["standing"], both) != len(both):
                raise NotMet(_DROPPED)
            yield connection, position
    finally:
        with suppress(TimeoutError, *UNREACHABLE):
            await connection.close(timeout=_CLOSE_SECONDS)


async def _keep(
    connection: Connection, serving: Generation, other: Generation, tables: Sequence[Table]
) -> None:
    """See to it that nobody drops the tables before they are compared."""
    names = [f"{one.schema}.{table.name}" for one in (serving, other) for table in tables]
    try:
        await connection.execute(f"LOCK TABLE {', '.join(names)} IN ACCESS SHARE MODE")
    except asyncpg.UndefinedTableError as error:
        raise NotMet(_DROPPED) from error


async def _compare_parked(
    connection: Connection, serving: Generation, other: Generation
) -> TableComparison:
    """Compare whose events wait, and from which one on: those are not in the tables."""
    live = {tuple(row) for row in await connection.fetch(_SQL["parked"], serving.id)}
    copied = {tuple(row) for row in await connection.fetch(_SQL["parked"], other.id)}
    differing = sorted(
        [(row, True) for row in live - copied] + [(row, False) for row in copied - live]
    )
    told = TableComparison(
        table=_PARKED,
        live_rows=len(live),
        copied_rows=len(copied),
        differing_rows=len(differing),
    )
    for (tenant, owner_key, position, event_id), is_live in differing[:MAX_DIFFERENCES]:
        told.differences.append(
            RowDifference(
                is_live=is_live,
                row=f"({tenant},{owner_key},{position},{event_id})",
                position=position,
                event_id=event_id,
            )
        )
    return told
