"""The registered types of custom events, as each process knows them."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from libs.eventstore.errors import StoreFull, StoreUnavailable
from libs.eventstore.keyring import Keyring
from libs.eventstore.records import open_event
from libs.eventstore.store import database_errors
from libs.eventstore.streams import stream_page
from libs.identity.keys import IdentityKeys
from libs.identity.streams import changes_stream
from libs.postgres.queries import load_queries
from services.ingestion.catalogue import registration_in, stream_owner
from services.ingestion.domain import Violation
from services.ingestion.schemas import Schema, SchemaError, read_properties
from touchline.events.v1.facts_pb2 import CustomEvent
from touchline.ingestion.v1.ingestion_pb2 import CustomEventType
from touchline.store.v1.store_pb2 import GetStreamRequest, PositionedEvent, RecordedEvent
from touchline.times import timestamp_of

_LOOK_SECONDS: Final = 1.0
_UNREGISTERED: Final = (
    "is no registered type; register it with RegisterCustomEventType, then retry the event"
)
_UNUSABLE: Final = (
    "names a type whose schema this release can't use; register a version of it that it can, then "
    "retry the event"
)
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
_log = structlog.get_logger("event-types")


class KnownType:
    """The newest version of a type, as this process knows it.

    Args:
        message: The type as callers see it.
    """

    __slots__ = ("_schema", "message")

    def __init__(self, message: CustomEventType) -> None:
        self.message = message
        self._schema: Schema | None = None

    def violations_of(self, properties: object) -> list[Violation]:
        """Return what is wrong with the properties of an event of this type."""
        try:
            # Most processes see events of few types, so schemas are compiled when they are needed.
            self._schema = self._schema or Schema(self.message.json_schema)
        except SchemaError as error:
            _log.error("a schema can't be used", version=self.message.version, reason=str(error))
            return [("custom_event.name", _UNUSABLE)]
        return self._schema.violations_of(properties)


class EventTypes:
    """The types of custom events, as this process knows them.

    What other processes register it learns within about a second. Before it finds something wrong
    with an event it looks whether anything new is there, so nothing is rejected for what this
    process had not heard of yet.

    Args:
        pool: Connections to the store's database.
        keyring: Opens the registrations.
        identity_keys: By tenant number: what names its streams.
    """

    def __init__(
        self, pool: asyncpg.Pool, keyring: Keyring, identity_keys: Mapping[int, IdentityKeys]
    ) -> None:
        self._pool = pool
        self._keyring = keyring
        self._streams = {
            tenant: changes_stream(stream_owner(keys).key) for tenant, keys in identity_keys.items()
        }
        self._types: dict[int, dict[str, KnownType]] = {tenant: {} for tenant in identity_keys}
        self._seen = dict.fromkeys(identity_keys, 0)
        self._looking = {tenant: asyncio.Lock() for tenant in identity_keys}
        self._moved = asyncio.Event()

    def of(self, tenant: int) -> list[CustomEventType]:
        """Return the newest version of each type of a tenant, by name."""
        return [one.message for _, one in sorted(self._types[tenant].items())]

    def newest(self, tenant: int, name: str) -> CustomEventType | None:
        """Return the newest version of a type; None when it is not registered."""
        known = self._types[tenant].get(name)
        return known.message if known else None

    async def violations_of(
        self, tenant: int, facts: Sequence[CustomEvent]
    ) -> list[list[Violation]]:
        """Return what is wrong with each of a tenant's custom events.

        Raises:
            StoreUnavailable: something seems wrong, and whether that still holds can't be told.
        """
        found = await self._judge(tenant, facts)
        if any(found) and await self.look(tenant):
            found = await self._judge(tenant, facts)
        return found

    async def look(self, tenant: int) -> bool:
        """Learn what was registered since this process last looked; tell whether there was any.

        Raises:
            StoreUnavailable: the store can't be reached.
        """
        async with self._looking[tenant]:
            before = self._seen[tenant]
            while page := await self._page(tenant):
                for positioned in page:
                    await self._learn(tenant, positioned)
            return self._seen[tenant] > before

    async def look_at_all(self) -> None:
        """Learn what was registered for any tenant since this process last looked.

        Raises:
            StoreUnavailable: the store can't be reached.
        """
        async with database_errors():
            rows = await self._pool.fetch(
                _SQL["newest_registrations"],
                list(self._streams),
                [UUID(bytes=stream) for stream in self._streams.values()],
            )
        for tenant, version in rows:
            if (version or 0) > self._seen[tenant]:
                await self.look(tenant)

    def head_moved(self, _: int) -> None:
        """Tell that something was appended, which may be a registration."""
        self._moved.set()

    async def follow(self) -> None:
        """Learn what is registered, for ever: at most once a second, and only if the line grew."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            try:
                await self.look_at_all()
            except (StoreUnavailable, StoreFull):
                self._moved.set()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _judge(self, tenant: int, facts: Sequence[CustomEvent]) -> list[list[Violation]]:
        found = []
        for fact in facts:
            found.append(self._violations(tenant, fact))
            await asyncio.sleep(0)  # a check may take milliseconds, and others wait for the loop
        return found

    def _violations(self, tenant: int, fact: CustomEvent) -> list[Violation]:
        known = self._types[tenant].get(fact.name)
        if known is None:
            return [("custom_event.name", _UNREGISTERED)]
        properties, violations = read_properties(fact.properties_json)
        return violations or known.violations_of(properties)

    async def _page(self, tenant: int) -> Sequence[PositionedEvent]:
        request = GetStreamRequest(
            tenant=tenant,
            stream_id=self._streams[tenant],
            after_version=self._seen[tenant],
        )
        return (await stream_page(self._pool, request)).events

    async def _learn(self, tenant: int, positioned: PositionedEvent) -> None:
        record = RecordedEvent.FromString(positioned.event.record)
        opened = open_event(record, await self._keyring.keys_of(tenant, [record]))
        if opened is not None:
            told = registration_in(opened.aggregate_changed.state)
            before = self._types[tenant].get(told["name"])
            message = CustomEventType(
                **told,
                version=before.message.version + 1 if before else 1,
                registered_at=timestamp_of(record.occurred_at_us),
            )
            self._types[tenant][message.name] = KnownType(message)
        self._seen[tenant] = record.stream_version
