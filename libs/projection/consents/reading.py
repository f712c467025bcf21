"""Reads what was said of consents and preferences, and opens it."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from libs.consents import Word, word_of
from libs.eventstore.client import StoreClient
from libs.eventstore.records import identity_keys
from libs.postgres.queries import load_queries
from libs.projection.opening import open_events
from libs.projection.projection import Connection, Recorded
from touchline.store.v1.store_pb2 import RecordedEvent

_EVER: Final = 2**62
_MAX_WORDS: Final = 10_000
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class Asked(NamedTuple):
    """Whose words are asked for, and up to where: all that counted at an event.

    Attributes:
        tenant: The tenant's number.
        identity_key: Any identity of the profile, as it is known when one asks.
        position: Only words up to this position.
        recorded_at_us: Only retractions recorded by then, in microseconds since 1970.
    """

    tenant: int
    identity_key: bytes
    position: int = _EVER
    recorded_at_us: int = _EVER


class Said(NamedTuple):
    """What was said for a profile: its identities' keys, and the words."""

    identity_keys: tuple[bytes, ...]
    words: tuple[Word, ...]


async def words_of(
    database: asyncpg.Pool | Connection,
    store: StoreClient,
    tenant: int,
    keys: Collection[bytes],
    as_of_us: int | None = None,
) -> list[Word]:
    """Return what was said for some identities, without what was retracted or erased.

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
    opened = await _opened(store, [tuple(row) for row in rows])
    return list(opened.values())


async def words_before(
    database: asyncpg.Pool | Connection, store: StoreClient, asked: Sequence[Asked]
) -> list[Said]:
    """Return what was said for the profile of each, in their order; nothing for one not known.

    Raises:
        StoreUnavailable: the data keys can't be got.
    """
    if not asked:
        return []
    columns = [list(column) for column in zip(*asked, strict=True)]
    places = list(range(len(asked)))
    rows = await database.fetch(_SQL["words_before"], places, *columns, _MAX_WORDS)
    opened = await _opened(store, {tuple(row[2:]) for row in rows if row["record"] is not None})
    keys: dict[int, tuple[bytes, ...]] = {}
    words: dict[int, list[Word]] = {}
    for place, profile_keys, _, _, record in rows:
        keys[place] = tuple(profile_keys)
        if record in opened:
            words.setdefault(place, []).append(opened[record])
    return [
        Said(keys.get(place, (one.identity_key,)), tuple(words.get(place, ())))
        for place, one in enumerate(asked)
    ]


async def _opened(
    store: StoreClient, rows: Collection[tuple[int, int, bytes]]
) -> dict[bytes, Word]:
    """Return each record that can be opened as a word."""
    events = [
        Recorded(position, recorded_at_us, RecordedEvent.FromString(record), record)
        for position, recorded_at_us, record in rows
    ]
    words = {}
    for recorded, event in zip(events, await open_events(store, events), strict=True):
        if event is None:
            continue
        record = recorded.record
        keys = tuple(identity_keys(record))
        told = (event, record.event_id, keys, record.occurred_at_us, recorded.recorded_at_us)
        if word := word_of(*told):
            words[recorded.record_bytes] = word
    return words
