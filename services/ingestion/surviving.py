"""Reads what identities own before an erasure, and keeps the keys of what stays open."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from asyncpg.pgproto.pgproto import UUID

from libs.eventstore.errors import ErasureRefused
from libs.eventstore.keyring import Era, Keyring
from libs.eventstore.records import needs_kept_key
from libs.eventstore.sealing import DataKey
from libs.eventstore.store import EventStore, database_errors
from libs.postgres.queries import load_queries
from touchline.events.v1.decisions_pb2 import Erasure
from touchline.store.v1.store_pb2 import RecordedEvent

# An event may have 256 KiB.
_READ_AT_ONCE: Final = 100
_KEPT_AT_ONCE: Final = 2000

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
Kept = tuple[UUID, bytes, int, bytes]
"""An event's id, its owner, when it occurred, and its wrapped key."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of the events that identities own.

    Attributes:
        era: Since when nobody else may have been erased.
        data_keys: The identities' data keys; one that has none is not in it.
        up_to: The last position that was looked at.
        erased_events: How many events open now and are to be erased.
        kept_events: How many events open now and stay.
    """

    era: Era
    data_keys: dict[bytes, DataKey]
    up_to: int = 0
    erased_events: int = 0
    kept_events: int = 0


class Survivors:
    """Tells what an erasure concerns, and keeps the keys of what it does not.

    Args:
        store: The line.
        keyring: Knows the keys.
    """

    def __init__(self, store: EventStore, keyring: Keyring) -> None:
        self._store = store
        self._pool = store.pool
        self._keyring = keyring

    async def begin(self, tenant: int, erasure: Erasure) -> Reading:
        """Return a reading of nothing yet."""
        era = await self._keyring.renewed()
        return Reading(era, await self._keyring.fetch(tenant, erasure.identity_keys))

    async def read_on(
        self, tenant: int, erasure: Erasure, reading: Reading, *, keeps: bool
    ) -> Reading | None:
        """Read the events that came since, in bounded memory, and return what is read now.

        Args:
            tenant: The tenant's number.
            erasure: Whom and what time it concerns.
            reading: What was read before.
            keeps: Whether to keep the keys of the events that stay open.

        Returns:
            None when somebody else was erased since, so that keys may be others.

        Raises:
            ErasureRefused: an event in the range is sealed under its owner's data key.
            StoreFull, StoreUnavailable: the database can't be reached.
        """
        up_to = (await self._store.head()).position
        counts = {True: reading.erased_events, False: reading.kept_events}
        kept: list[Kept] = []
        async for position, record in self._opening(tenant, erasure, reading, up_to):
            concerned = concerns(erasure, record)
            if concerned and not (record.event_secret_id or is_whole(erasure)):
                raise ErasureRefused(_sealed_before(position))
            counts[concerned] += 1
            key = reading.data_keys[record.owner_key]
            if not concerned and keeps and record.event_secret_id == key.event_secret_id != b"":
                kept.append(self._kept(tenant, record, key))
            if len(kept) == _KEPT_AT_ONCE:
                if not await self._keep(tenant, reading.era, kept):
                    return None
                kept = []
        if kept and not await self._keep(tenant, reading.era, kept):
            return None
        return replace(reading, up_to=up_to, erased_events=counts[True], kept_events=counts[False])

    async def opening_before(
        self, tenant: int, erasure: Erasure, data_keys: dict[bytes, DataKey], position: int
    ) -> int:
        """Return how many events from before a position open that an erasure concerns."""
        reading = Reading(await self._keyring.era(), data_keys)
        found = 0
        async for _, record in self._opening(tenant, erasure, reading, position - 1):
            found += concerns(erasure, record)
        return found

    async def _opening(
        self, tenant: int, erasure: Erasure, reading: Reading, up_to: int
    ) -> AsyncIterator[tuple[int, RecordedEvent]]:
        """Yield the events of some positions that open with the keys there are."""
        asked = tenant, list(erasure.identity_keys), reading.up_to, up_to
        async with (
            database_errors(),
            self._pool.acquire() as connection,
            connection.transaction(readonly=True),
        ):
            cursor = await connection.cursor(_SQL["owned_events"], *asked)
            while rows := await cursor.fetch(_READ_AT_ONCE):
                records = [RecordedEvent.FromString(row["record"]) for row in rows]
                keys = reading.data_keys
                ids = [one.event_id for one in records if needs_kept_key(one, keys)]
                there = await self._keyring.event_keys(tenant, ids) if ids else {}
                for row, record in zip(rows, records, strict=True):
                    if _opens(record, keys) or record.event_id in there:
                        yield row["position"], record

    def _kept(self, tenant: int, record: RecordedEvent, key: DataKey) -> Kept:
        event_key = key.event_key(record.event_id)
        wrapped = self._keyring.wrap_event_key(tenant, record.event_id, event_key)
        return UUID(record.event_id), record.owner_key, record.occurred_at_us, wrapped

    async def _keep(self, tenant: int, era: Era, kept: Sequence[Kept]) -> bool:
        # In one order: two erasures that keep the same keys would else wait for each other.
        columns = [list(column) for column in zip(*sorted(kept), strict=True)]
        async with database_errors():
            done: bool = await self._pool.fetchval(
                _SQL["keep_event_keys"], tenant, era.erasures, *columns
            )
        return done


def is_whole(erasure: Erasure) -> bool:
    """Tell whether an erasure is one of the identities themselves, not of a time range."""
    return not erasure.occurred_from_us and not erasure.occurred_before_us


def concerns(erasure: Erasure, record: RecordedEvent) -> bool:
    """Tell whether an event of the identities is to be erased."""
    if is_whole(erasure):
        return True
    before = erasure.occurred_before_us
    at = record.occurred_at_us
    return at >= erasure.occurred_from_us and (not before or at < before)


def _opens(record: RecordedEvent, data_keys: dict[bytes, DataKey]) -> bool:
    owner = data_keys.get(record.owner_key)
    if owner is None:
        return False
    if record.event_secret_id:
        return record.event_secret_id == owner.event_secret_id
    return record.identities[0].key_id == owner.key_id


def _sealed_before(position: int) -> str:
    return (
        f"the event at position {position} was recorded by a release that sealed all events of a "
        "customer under one key, so those of a time can't be singled out; erase the customer "
        "whole, or a time in which there are no such events. Nothing was erased."
    )
