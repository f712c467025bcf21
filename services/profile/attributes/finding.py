"""Finds where attributes were observed, without reading all that ever was."""

from collections.abc import Collection
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from libs.postgres.queries import load_queries
from libs.projection.config import Reader
from libs.projection.projection import Recorded
from services.profile.attributes.hashing import name_key, value_key
from touchline.store.v1.store_pb2 import RecordedEvent

Place = tuple[int, bytes]
"""When an event happened, in microseconds since 1970, and its id."""

_LOOKED_AT: Final = 500
_MOST_LOOKS: Final = 10
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class Found(NamedTuple):
    """A profile, and the last event that observed the value.

    Attributes:
        root_key: The profile's root.
        recorded: The event; None while the timeline does not have it.
        place: The event's.
        current: Whether nothing was observed of the attribute since.
    """

    root_key: bytes
    recorded: Recorded | None
    place: Place
    current: bool


async def find_profiles(
    pool: asyncpg.Pool, reader: Reader, name: str, value: str, before: Place, limit: int
) -> tuple[list[Found], Place | None]:
    """Return profiles in which a value was observed, the one that was observed last first.

    Where the same profiles observed it over and over, fewer are returned, or none, and it goes on
    from the place: at most 5,000 observations are looked at.

    Args:
        pool: Connections to the service's database.
        reader: The tenant.
        name: The attribute's.
        value: Its value.
        before: Only observations that come before this place.
        limit: How many at most.

    Returns:
        The profiles, and from where on there may be more; None when there are no more.
    """
    keys = reader.identity_keys
    hashed = value_key(keys, name, value), name_key(keys, name)
    found, known = list[Found](), set[bytes]()
    for _ in range(_MOST_LOOKS):
        from_us, from_id = before[0], UUID(before[1])
        seen = await pool.fetch(
            _SQL["next_observations"], reader.tenant, hashed[0], from_us, from_id, _LOOKED_AT
        )
        if not seen:
            return found, None
        to_us, to_id = seen[-1]["occurred_at_us"], seen[-1]["event_id"]
        # The profile of an owner who was looked at stands further up already.
        owners = {row["owner_key"] for row in seen if not row["retracted"]} - known
        if owners:
            known |= owners
            rows = await pool.fetch(
                _SQL["found_profiles"],
                *(reader.tenant, list(owners), *hashed),
                *(from_us, from_id, to_us, to_id, limit + 1 - len(found)),
            )
            found += [_found(row) for row in rows]
        if len(found) > limit:
            return found[:limit], found[limit - 1].place
        if len(seen) < _LOOKED_AT:
            return found, None
        before = to_us, to_id.bytes
    return found, before


async def events_of(
    pool: asyncpg.Pool,
    reader: Reader,
    keys: Collection[bytes],
    name: str,
    before: Place,
    limit: int,
) -> list[Recorded]:
    """Return events that observed an attribute under some identities, newest first.

    Args:
        pool: Connections to the service's database.
        reader: The tenant.
        keys: The identities.
        name: The attribute's.
        before: Only events that come before this place.
        limit: How many at most.
    """
    rows = await pool.fetch(
        _SQL["events_of_name"],
        *(reader.tenant, list(keys), name_key(reader.identity_keys, name)),
        *(before[0], UUID(before[1]), limit),
    )
    return [_recorded(*row) for row in rows]


async def last_events(
    pool: asyncpg.Pool, reader: Reader, keys: Collection[bytes], names: Collection[str]
) -> dict[str, bytes]:
    """Return the id of the event that observed each attribute last under some identities."""
    hashed = {name_key(reader.identity_keys, name): name for name in names}
    rows = await pool.fetch(_SQL["last_events_of_names"], reader.tenant, list(keys), list(hashed))
    return {hashed[key]: event_id.bytes for key, event_id in rows}


def _found(row: asyncpg.Record) -> Found:
    root, occurred_at_us, event_id, *event, current = row
    recorded = None if event[0] is None else _recorded(*event)
    return Found(root, recorded, (occurred_at_us, event_id.bytes), current)


def _recorded(position: int, recorded_at_us: int, record: bytes) -> Recorded:
    return Recorded(position, recorded_at_us, RecordedEvent.FromString(record), record)
