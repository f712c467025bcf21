"""Finds the profiles in which a value was ever observed."""

from pathlib import Path
from typing import Final, NamedTuple

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from libs.postgres.queries import load_queries
from libs.projection.projection import Recorded
from touchline.store.v1.store_pb2 import RecordedEvent

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class FoundRow(NamedTuple):
    """A profile, and the last event that observed the value.

    Attributes:
        root_key: The profile's root.
        recorded: The event.
        place: When it happened, in microseconds since 1970, and its id: where the next page begins.
    """

    root_key: bytes
    recorded: Recorded
    place: tuple[int, bytes]


async def find_rows(
    pool: asyncpg.Pool, tenant: int, value_key: bytes, before: tuple[int, bytes], limit: int
) -> list[FoundRow]:
    """Return profiles in which a value was observed, the one that was observed last first.

    Args:
        pool: Connections to the service's database.
        tenant: The tenant's number.
        value_key: See services.profile.attributes.hashing.
        before: Only observations that come before this place.
        limit: How many at most.
    """
    occurred_us, event_id = before
    rows = await pool.fetch(
        _SQL["find_profiles"], tenant, value_key, occurred_us, UUID(event_id), limit
    )
    return [
        FoundRow(
            root,
            Recorded(position, recorded_at_us, RecordedEvent.FromString(record), record),
            (occurred_at_us, event_id.bytes),
        )
        for root, position, recorded_at_us, record, occurred_at_us, event_id in rows
    ]
