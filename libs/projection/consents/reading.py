"""Reads what was said of consents and preferences, and opens it."""

from asyncio import sleep
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from libs.consents import Said, Word, erased_consent, word_of
from libs.eventstore.client import StoreClient
from libs.eventstore.records import identity_keys
from libs.postgres.queries import load_queries
from libs.projection.opening import open_events
from libs.projection.projection import Connection, Recorded
from touchline.events.v1.event_pb2 import EVENT_TYPE_CONSENT_CHANGED, Event
from touchline.store.v1.store_pb2 import RecordedEvent

_EVER: Final = 2**62
_MAX_WORDS: Final = 10_000
_OPENED_AT_ONCE: Final = 500
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class _Row(NamedTuple):
    position: int
    recorded_at_us: int
    retracted_at_us: int | None
    record: bytes


class _Profile(NamedTuple):
    keys: tuple[bytes, ...]
    rows: tuple[_Row, ...]


async def words_of(
    database: asyncpg.Pool | Connection,
    store: StoreClient,
    tenant: int,
    keys: Collection[bytes],
    as_of_us: int | None = None,
) -> Said:
    """Return what was said for some identities, without what was retracted.

    Args:
        database: Connections to, or a transaction on, the projection's database.
        store: Gives the data keys.
        tenant: The tenant's number.
        keys: The identities.
        as_of_us: What had been said and recorded by then, in microseconds since 1970. Default: all.

    Returns:
        The latest 10,000 words at most.

    Raises:
        StoreUnavailable: the data keys can't be got.
    """
    until_us = _EVER if as_of_us is None else as_of_us
    rows = await database.fetch(_SQL["words"], tenant, list(keys), until_us, _MAX_WORDS)
    opened = await _opened(
        store, [_Row(position, at, None, record) for position, at, record in rows]
    )
    return Said(tuple(keys), tuple(opened.values()), len(rows) < _MAX_WORDS)


async def words_before(
    database: asyncpg.Pool | Connection, store: StoreClient, events: Mapping[int, Recorded]
) -> dict[int, Said]:
    """Return what counted for the customer of each event when it was recorded, it included.

    Who is one customer is taken as it is known when one asks. Of an identity that is not known yet
    nothing was said.

    Args:
        database: Connections to the projection's database.
        store: Gives the data keys.
        events: By a number that names what is asked.

    Returns:
        By that number the latest 10,000 words at most.

    Raises:
        StoreUnavailable: the data keys can't be got.
    """
    profiles = await _profiles(database, list(events.values())) if events else {}
    rows = {row.record: row for profile in profiles.values() for row in profile.rows}
    opened = await _opened(store, list(rows.values()))
    said = {}
    for place, event in events.items():
        owner = event.record.owner_key
        profile = profiles.get((event.record.tenant, owner), _Profile((owner,), ()))
        counting = (row for row in profile.rows if _counts(row, event))
        words = tuple(opened[row.record] for row in counting if row.record in opened)
        said[place] = Said(profile.keys, words, len(profile.rows) < _MAX_WORDS)
    return said


async def _profiles(
    database: asyncpg.Pool | Connection, events: Sequence[Recorded]
) -> dict[tuple[int, bytes], _Profile]:
    """Return the profiles of events' owners, by tenant and owner."""
    asked = [(one.record.tenant, one.record.owner_key, one.position) for one in events]
    columns = [list(column) for column in zip(*asked, strict=True)]
    found = {}
    for tenant, owners, keys, *words in await database.fetch(
        _SQL["words_before"], *columns, _MAX_WORDS
    ):
        rows = map(_Row, *[column or () for column in words])
        profile = _Profile(tuple(keys), tuple(rows))
        found.update({(tenant, owner): profile for owner in owners})
    return found


def _counts(row: _Row, event: Recorded) -> bool:
    """Tell whether something was said, and not taken back, when an event was recorded."""
    retracted_at_us = _EVER if row.retracted_at_us is None else row.retracted_at_us
    return row.position <= event.position and retracted_at_us > event.recorded_at_us


async def _opened(store: StoreClient, rows: Sequence[_Row]) -> dict[bytes, Word]:
    """Return each record as a word; of a preference that was erased nothing is left."""
    words = {}
    for start in range(0, len(rows), _OPENED_AT_ONCE):
        events = [
            Recorded(
                row.position, row.recorded_at_us, RecordedEvent.FromString(row.record), row.record
            )
            for row in rows[start : start + _OPENED_AT_ONCE]
        ]
        opened = await open_events(store, events, identities=False)
        for recorded, event in zip(events, opened, strict=True):
            if word := _word(recorded, event):
                words[recorded.record_bytes] = word
        await sleep(0)
    return words


def _word(recorded: Recorded, event: Event | None) -> Word | None:
    record = recorded.record
    keys = tuple(identity_keys(record))
    said = (record.event_id, keys, record.occurred_at_us, recorded.recorded_at_us)
    if event is not None:
        return word_of(event, *said)
    return erased_consent(*said) if record.type == EVENT_TYPE_CONSENT_CHANGED else None
