"""What becomes of what was folded when the store was restored from a backup.

A restored store has an id of its own and names its ancestors: the stores whose backups it came
from, and where each backup ended. So a projection that stands on another store's line can tell
whether that line goes on here, was cut off behind it, or never was this one's.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from enum import Enum, auto
from pathlib import Path
from typing import Final

import asyncpg
import structlog

from libs.eventstore.chain import Head, Lineage
from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreUnavailable
from libs.postgres.queries import load_queries
from libs.projection.checkpoints import FoldsAnew, Halted, Ownership
from libs.projection.continuity import Checkpoint, Fork

_ATTEMPTS: Final = 5
# What every database of projections has besides the tables that they fold into.
_OWN: Final = ("parked_keys", "outbox", "projection_checkpoints", "projection_generations")
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
_log = structlog.get_logger("projection")


class Standing(Enum):
    """How a place stands to a store's line."""

    GOES_ON = auto()
    """It is on the line, which goes on from there: under another store's id, or this one's."""

    CUT_OFF = auto()
    """The store was restored to before that place: what was folded beyond is on no line."""

    CONTRADICTED = auto()
    """The store has the place's own id, and not its events."""

    STRANGE = auto()
    """The store was not restored from the one that the place belongs to."""


def standing(at: Head, lineage: Lineage, chain: bytes) -> Standing:
    """Tell how a place stands to a store's line.

    Args:
        at: The place, on some store's line.
        lineage: The store's head and ancestors.
        chain: The store's own chain at that position; empty if it ends before.
    """
    continued = chain == at.chain
    if at.store_id == lineage.head.store_id:
        return Standing.GOES_ON if continued else Standing.CONTRADICTED
    ancestor = lineage.ancestor(at.store_id)
    if ancestor is None:
        return Standing.STRANGE
    on_both = at.position <= ancestor.position and continued
    return Standing.GOES_ON if on_both else Standing.CUT_OFF


async def continued_elsewhere(
    store: StoreClient, ownership: Ownership, at: Checkpoint, fork: Fork
) -> Checkpoint:
    """Return a checkpoint that history does not continue as one of the store that is there now.

    Args:
        store: The store.
        ownership: This process's hold on the projection.
        at: The checkpoint.
        fork: Why history does not continue it.

    Raises:
        Halted: somebody has to act.
        FoldsAnew: the store was cut off before it.
        StoreError: it can't be told now.
        LostLease: the projection is another process's.
    """
    lineage = await store.lineage()
    page = (await store.history(at.position)).batch
    if page.store_id != lineage.head.store_id:
        raise StoreUnavailable("one store is just taking the other's place")
    place = Head(at.store_id, at.position, at.chain)
    then, now = at.store_id.hex(), lineage.head.store_id.hex()
    match standing(place, lineage, page.previous_chain):
        case Standing.GOES_ON:
            await ownership.adopt(at, lineage.head.store_id)
            return replace(at, store_id=lineage.head.store_id)
        case Standing.CUT_OFF:
            raise FoldsAnew(
                f"the views have events up to position {at.position} of store {then}, and store "
                f"{now}, restored from a backup of it, does not have all of them: the tables are "
                "emptied",
                ownership.folding,
            )
        case Standing.CONTRADICTED:
            raise Halted(
                f"the store's history {fork}: this projection folded events that the store does "
                "not have, as after the restore of an older backup that was not made a store of "
                "its own. If that line is the right one, run `SELECT become_another_store()` in "
                "the store's database, and the views fold anew by themselves"
            )
        case Standing.STRANGE:
            raise Halted(
                f"the events come from store {now} now, which was not restored from {then}, whose "
                "events this projection folded. Check TOUCHLINE_NATS_URL; if that store is the "
                "right one, fold anew as the runbook says (A projection is halted)"
            )


@asynccontextmanager
async def emptied_to_fold_anew(pool: asyncpg.Pool, folded: Collection[str]) -> AsyncIterator[None]:
    """Empty a database when the block ends because it has to be folded anew.

    The process ends with it, and folds anew when it is started again: what decides and sends looks
    at its start whether everything has been folded, and must not act on views that fill up.

    Args:
        pool: Connections to the database.
        folded: Every table that its projections and reactors fold into.

    Raises:
        FoldsAnew: always, once it is empty, if that is how the block ended.
    """
    try:
        yield
    except FoldsAnew as end:
        _log.error("database folds anew", reason=str(end))
        await _empty(pool, folded, end.folding)
        raise


async def _empty(pool: asyncpg.Pool, folded: Collection[str], folding: int) -> None:
    # Whatever the connection's search_path is: that of a generation names other tables first.
    names = ", ".join(f'public."{name}"' for name in sorted({*folded, *_OWN}))
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("SET LOCAL synchronous_commit = on")
                # Of several processes one does it: the others wait here, and find it done.
                if await connection.fetchval(_SQL["begin_anew"], folding) is None:
                    return
                # Its locks wait for the transactions of other processes, which then fail by their
                # checkpoints, and find another number of foldings.
                for row in await connection.fetch(_SQL["schemas_of_generations"]):
                    await connection.execute(f"DROP SCHEMA IF EXISTS {row['name']} CASCADE")
                await connection.execute(f"TRUNCATE {names} CASCADE")
            return
        except asyncpg.DeadlockDetectedError:
            if attempt == _ATTEMPTS:
                raise
