"""Reads what happened to a customer, sealed as the store keeps it."""

from collections.abc import Collection
from pathlib import Path
from typing import Final

import asyncpg

from libs.postgres.queries import load_queries
from libs.projection.projection import Connection, Recorded
from touchline.store.v1.store_pb2 import RecordedEvent

_EVER: Final = 2**62
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


async def touches_of(
    database: asyncpg.Pool | Connection,
    tenant: int,
    keys: Collection[bytes],
    *,
    since_us: int = 0,
    up_to_position: int = _EVER,
    recorded_by_us: int = _EVER,
    types: Collection[int] | None = None,
    limit: int,
) -> list[Recorded]:
    """Return events that identities own, the newest first, without those retracted.

    Whoever decides asks for what was there at an event's position, and gets the same whenever it
    asks: with `recorded_by_us` later retractions don't count either.

    Args:
        database: Connections to, or a transaction on, the database of the timeline.
        tenant: The tenant's number.
        keys: The identity keys.
        since_us: Only what occurred then or later, in microseconds since 1970.
        up_to_position: Only events up to this position.
        recorded_by_us: Only retractions recorded by then, in microseconds since 1970.
        types: Only these types of events; None for all.
        limit: How many at most.
    """
    rows = await database.fetch(
        _SQL["touches"],
        *(tenant, list(keys), since_us, up_to_position, types and list(types)),
        *(recorded_by_us, limit),
    )
    return [
        Recorded(position, recorded_at_us, RecordedEvent.FromString(record), record)
        for position, recorded_at_us, record in rows
    ]
