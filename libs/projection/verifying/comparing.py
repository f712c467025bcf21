"""Compares a projection with a copy folded anew: rebuilt is live, byte for byte."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import asyncpg

from libs.eventstore.client import StoreClient
from libs.projection.comparing import compare_tables, erased_after
from libs.projection.generations.meeting import NotMet, meeting
from libs.projection.projection import Projection
from libs.projection.verifying.copying import (
    Copy,
    Live,
    Unverifiable,
    live_state,
    scratch_schema,
)
from touchline.projection.v1.projection_pb2 import TableComparison

# The live projection goes on while the copy is folded; once no more than this is missing, the rest
# is folded in the transaction that compares.
_NEARLY: Final = 5_000
_ROUNDS: Final = 10
# So often it is compared while customers are being erased.
_COMPARED: Final = 20
_FORGOTTEN_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class ProjectionVerification:
    """How far the verification of a projection came, and what it found.

    Attributes:
        folded: Up to which position the copy is folded.
        events: Up to which the live tables are, as far as it is known.
        tables: At the end: how each table compares.
        parked: At the end: how many customers' events wait, in the live tables as in the copy.
        finished: Whether they were compared, at the position `folded`.
    """

    folded: int
    events: int
    tables: tuple[TableComparison, ...] = ()
    parked: int = 0
    finished: bool = False

    @property
    def is_equal(self) -> bool:
        """Whether all tables were compared and none differs."""
        return self.finished and not any(table.differing_rows for table in self.tables)


async def verify_projection(
    projection: Projection, database_url: str, store: StoreClient
) -> AsyncGenerator[ProjectionVerification]:
    """Yield the state of a verification as it goes on; the last one is finished.

    The projection is folded anew, from position 1, into a copy of its tables, and compared with the
    live ones in one snapshot, at one position, as text. It goes on meanwhile. Events that it has
    parked are left out of the copy as well. The copy goes in the end, also when the generator is
    closed early: use `contextlib.aclosing`.

    Args:
        projection: Which one; what it remembers is not used.
        database_url: Its database, for a login that may create schemas there.
        store: History and data keys.

    Raises:
        Unverifiable: it is a reactor, halted, never folded; history is not what it folded; or
            another verification is under way in this database.
        StoreError: the store can't be reached.
    """
    copied = projection.copy()
    if copied is None:
        raise Unverifiable(
            f"{projection.name} acts on what it folds, and only one may: it is not folded twice."
        )
    async with scratch_schema(database_url, projection.tables) as (connection, schema):
        copy = Copy(copied, connection, store)
        live = await live_state(connection, projection)
        for _ in range(_ROUNDS):
            async with aclosing(copy.fold_up_to(live)) as positions:
                async for position in positions:
                    yield ProjectionVerification(position, live.position)
            live = await live_state(connection, projection)
            if live.position - copy.at.position <= _NEARLY:
                break
        for _ in range(_COMPARED):
            async with connection.transaction(isolation="repeatable_read"):
                live = await _met(connection, projection, database_url, live)
                async with aclosing(copy.fold_up_to(live)) as positions:
                    async for position in positions:
                        yield ProjectionVerification(position, live.position)
                tables = [
                    await compare_tables(connection, table, live.schema, schema)
                    for table in projection.tables
                ]
            if all(not table.differing_rows for table in tables):
                break
            if not await erased_after(store, live.position):
                break
            # The copy could not open what the live tables are about to forget.
            await asyncio.sleep(_FORGOTTEN_SECONDS)
        yield ProjectionVerification(
            folded=live.position,
            events=live.position,
            tables=tuple(tables),
            parked=len(live.parked),
            finished=True,
        )


async def _met(
    connection: asyncpg.Connection, projection: Projection, database_url: str, before: Live
) -> Live:
    """Return where the live projection stands, in a snapshot in which all its ranges stand there.

    Raises:
        Unverifiable: they did not come to one position.
    """
    if before.ranges == 1:
        live = await live_state(connection, projection)
    else:
        try:
            async with (
                asyncpg.create_pool(database_url, min_size=1, max_size=1) as pool,
                meeting(pool, [before.generation]),
            ):
                live = await live_state(connection, projection)
        except NotMet as error:
            raise Unverifiable(str(error)) from error
    if not live.is_met or live.generation != before.generation:
        raise Unverifiable(
            f"{projection.name} was divided, or switched to another generation, while it was "
            "copied. Verify it again."
        )
    return live
