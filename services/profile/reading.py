"""Reads profiles: whose an identity is, what happened, and what the sealed events say."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreError
from libs.eventstore.records import Keys, event_id_text, open_event, open_identity
from libs.eventstore.sealing import DataKey
from libs.postgres.queries import load_queries
from libs.projection.config import Reader
from libs.projection.profiles import (
    Profile,
    erased_among,
    profile_as_of,
    profile_version,
    referred_profile,
    views_errors,
)
from libs.projection.projection import Recorded
from libs.rpc import errors
from services.profile.domain import Touch
from touchline.events.v1.event_pb2 import (
    EVENT_TYPE_CAMPAIGN_TOUCHED,
    EVENT_TYPE_COMMUNITY_POSTED,
    EVENT_TYPE_INTERACTION,
    EVENT_TYPE_ORDER_CHANGED,
    EVENT_TYPE_PRODUCT_USED,
    Event,
)
from touchline.profile.v1.profile_pb2 import ProfileIdentity, ProfileReference, TimelineEntry
from touchline.store.v1.store_pb2 import RecordedEvent, SealedIdentity
from touchline.times import timestamp_of

LATEST: Final = 2**62
LAST_ID: Final = b"\xff" * 16
_CONTACTS: Final = (
    *(EVENT_TYPE_INTERACTION, EVENT_TYPE_COMMUNITY_POSTED, EVENT_TYPE_ORDER_CHANGED),
    *(EVENT_TYPE_PRODUCT_USED, EVENT_TYPE_CAMPAIGN_TOUCHED),
)
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True, slots=True)
class Page:
    """Which events to read of a profile, newest first.

    Attributes:
        limit: How many at most.
        before: Only events that come before this (time in microseconds, event id) on the timeline.
        occurred_from_us: Only events of this time or later.
        channels: Only these; None for all.
        types: Only these; None for all.
        recorded_by_us: Only what was recorded by then.
    """

    limit: int
    before: tuple[int, bytes] = (LATEST, LAST_ID)
    occurred_from_us: int = 0
    channels: Sequence[int] | None = None
    types: Collection[int] | None = None
    recorded_by_us: int = LATEST


class Profiles:
    """Answers questions about profiles from the tables of the projections.

    Args:
        pool: Connections to the service's database.
        store: Gives the data keys that open events.
    """

    def __init__(self, pool: asyncpg.Pool, store: StoreClient) -> None:
        self._pool = pool
        self._store = store

    async def find(self, reader: Reader, reference: ProfileReference, path: str) -> Profile:
        """Return the profile that a reference leads to.

        Raises:
            CallError: INVALID_REQUEST naming the field below `path`, or PROFILE_NOT_FOUND.
        """
        return await referred_profile(
            self._pool, reader.tenant, reader.identity_keys, reference, path
        )

    async def find_as_of(self, reader: Reader, key: bytes, as_of_us: int) -> Profile:
        """Return the profile of an identity as it was at a time.

        Raises:
            CallError: PROFILE_NOT_FOUND or VIEWS_UNAVAILABLE.
        """
        async with views_errors():
            profile = await profile_as_of(self._pool, reader.tenant, key, as_of_us)
        if profile is None:
            raise errors.profile_not_found()
        return profile

    async def version(self, reader: Reader, profile: Profile) -> int:
        """Return how often people decided about who a profile is."""
        async with views_errors():
            return await profile_version(self._pool, reader.tenant, profile.root)

    async def erased_at(self, reader: Reader, profile: Profile) -> int | None:
        """Return when the whole of a profile was erased, in microseconds; None when it is not."""
        async with views_errors():
            erased = await erased_among(self._pool, reader.tenant, profile.keys)
        if len(erased) < len(profile.keys):
            return None
        return max(one.recorded_at_us for one in erased)

    async def identities(self, reader: Reader, profile: Profile) -> list[ProfileIdentity]:
        """Return the identities of a profile, opened, in the order they were first seen."""
        async with views_errors():
            rows = await self._pool.fetch(_SQL["identities_of"], reader.tenant, profile.keys)
        data_keys = await self._data_keys(reader, [row["identity_key"] for row in rows])
        opened = []
        for key, kind, first_position, sealed_value, key_id in rows:
            sealed = SealedIdentity(
                identity_key=key, kind=kind, sealed_value=sealed_value, key_id=key_id
            )
            identity = open_identity(sealed, data_keys)
            opened.append(
                ProfileIdentity(
                    identity=identity, first_position=first_position, identity_key=key.hex()
                )
            )
        return opened

    async def span(
        self, reader: Reader, profile: Profile, as_of_us: int | None = None
    ) -> tuple[int | None, int | None, int]:
        """Return when the first and the last contact happened, and how many events there are."""
        by_us = LATEST if as_of_us is None else as_of_us
        async with views_errors():
            row: Any = await self._pool.fetchrow(
                _SQL["span"], reader.tenant, profile.keys, _CONTACTS, by_us
            )
        first_us, last_us, count = row
        return first_us, last_us, count

    async def page(
        self, reader: Reader, profile: Profile, page: Page, *, identities: bool = True
    ) -> list[Touch]:
        """Return events of a profile, opened, newest first, without those retracted.

        Args:
            reader: The tenant.
            profile: Whose events.
            page: Which of them.
            identities: Whether to open theirs too.
        """
        before_us, before_id = page.before
        async with views_errors():
            rows = await self._pool.fetch(
                _SQL["page"],
                *(reader.tenant, profile.keys, before_us, UUID(before_id), page.occurred_from_us),
                *(page.channels, page.types and list(page.types), page.recorded_by_us, page.limit),
            )
        return await self._open(reader, rows, identities=identities)

    async def recorded_between(
        self, reader: Reader, profile: Profile, after: int, up_to: int, limit: int
    ) -> list[Touch]:
        """Return events of a profile in the order they were recorded, opened."""
        async with views_errors():
            rows = await self._pool.fetch(
                _SQL["recorded_between"], reader.tenant, profile.keys, after, up_to, limit
            )
        return await self._open(reader, rows)

    async def oldest_first(
        self, reader: Reader, profile: Profile, after: tuple[int, bytes], up_to: int, limit: int
    ) -> list[Touch]:
        """Return events of a profile in the order they happened, opened, those retracted too.

        Args:
            reader: The tenant.
            profile: Whose events.
            after: Only events that come after this (time in microseconds, event id).
            up_to: Only events of this position or before.
            limit: How many at most.
        """
        async with views_errors():
            rows = await self._pool.fetch(
                _SQL["oldest_first"],
                *(reader.tenant, profile.keys, after[0], UUID(after[1]), up_to, limit),
            )
        return await self._open(reader, rows)

    async def population(self, reader: Reader) -> tuple[int, int, int]:
        """Return how many profiles, identities and events the tenant has."""
        async with views_errors():
            row: Any = await self._pool.fetchrow(_SQL["population"], reader.tenant)
        profiles, identities, events = row
        return profiles, identities, events

    async def profile_ids(self, reader: Reader, after: bytes, limit: int) -> list[str]:
        """Return ids of the tenant's profiles, in order, after a root key."""
        async with views_errors():
            rows = await self._pool.fetch(_SQL["profiles"], reader.tenant, after, limit)
        return [row["identity_key"].hex() for row in rows]

    async def opened(
        self, reader: Reader, events: Sequence[Recorded], *, identities: bool = True
    ) -> list[Touch]:
        """Return events of the timeline opened, in their order; of erased ones what is left.

        Args:
            reader: The tenant.
            events: The events.
            identities: Whether to open theirs too.

        Raises:
            CallError: STORE_UNAVAILABLE.
        """
        keys = await self._keys_of(
            reader, [event.record for event in events], identities=identities
        )
        return [
            Touch(
                position=event.position,
                recorded_at_us=event.recorded_at_us,
                occurred_at_us=event.record.occurred_at_us,
                event=open_event(event.record, keys, identities=identities)
                or _envelope(event.record),
                event_id=event.record.event_id,
                type=event.record.type,
                owner_key=event.record.owner_key,
            )
            for event in events
        ]

    async def _open(
        self, reader: Reader, rows: Sequence[asyncpg.Record], *, identities: bool = True
    ) -> list[Touch]:
        events = [
            Recorded(
                row["position"],
                row["recorded_at_us"],
                RecordedEvent.FromString(row["record"]),
                row["record"],
            )
            for row in rows
        ]
        return await self.opened(reader, events, identities=identities)

    async def _keys_of(
        self, reader: Reader, records: Sequence[RecordedEvent], *, identities: bool
    ) -> Keys:
        try:
            return await self._store.keys_of(reader.tenant, records, identities=identities)
        except StoreError as error:
            raise errors.store_unavailable() from error

    async def _data_keys(self, reader: Reader, keys: Collection[bytes]) -> dict[bytes, DataKey]:
        try:
            return await self._store.data_keys(reader.tenant, keys)
        except StoreError as error:
            raise errors.store_unavailable() from error


def as_of(page: Page, as_of_us: int | None) -> Page:
    """Return a page of what had both occurred and been recorded by a time."""
    if as_of_us is None:
        return page
    return replace(page, before=min(page.before, (as_of_us, LAST_ID)), recorded_by_us=as_of_us)


def entry(touch: Touch) -> TimelineEntry:
    """Return a touch as a line of a timeline."""
    return TimelineEntry(
        position=touch.position,
        recorded_at=timestamp_of(touch.recorded_at_us),
        event=touch.event,
        type=touch.type,
        erased=touch.event.WhichOneof("fact") is None,
    )


def _envelope(record: RecordedEvent) -> Event:
    """Return what is left of an event once its key is gone."""
    event = Event(event_id=event_id_text(record.event_id), historical=record.historical)
    event.occurred_at.CopyFrom(timestamp_of(record.occurred_at_us))
    return event
