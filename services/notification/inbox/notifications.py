"""The projection of what was decided to tell: inboxes, what was read, and attempts to deliver."""

import uuid
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from libs.eventstore.client import StoreClient
from libs.identity.keys import IdentityKeys
from libs.postgres.queries import load_queries
from libs.projection.config import Reader
from libs.projection.erasing import Erasure, erasures_among
from libs.projection.opening import open_events
from libs.projection.projection import Connection, Recorded, Table
from touchline.events.v1.decisions_pb2 import (
    CHANNEL_VERDICT_CHOSEN,
    CHANNEL_VERDICT_DEFERRED,
    NOTIFICATION_CHANNEL_INBOX,
    NotificationDecided,
    NotificationRecipient,
)
from touchline.events.v1.event_pb2 import (
    EVENT_TYPE_DELIVERY_ATTEMPTED,
    EVENT_TYPE_NOTIFICATION_DECIDED,
    EVENT_TYPE_NOTIFICATION_READ,
    Event,
)
from touchline.store.v1.store_pb2 import RecordedEvent

MIGRATIONS: Final = Path(__file__).parents[1] / "migrations"
USED: Final = frozenset({CHANNEL_VERDICT_CHOSEN, CHANNEL_VERDICT_DEFERRED})
"""The verdicts of channels that are used."""

_FOLDED: Final = frozenset(
    {
        EVENT_TYPE_NOTIFICATION_DECIDED,
        EVENT_TYPE_DELIVERY_ATTEMPTED,
        EVENT_TYPE_NOTIFICATION_READ,
    }
)
# No identity has this kind, so no identity's key can equal a reference's.
_REFERENCE_KIND: Final = 0
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class Notifications:
    """Folds notifications; see libs.projection.projection.Projection.

    It opens what it folds to know whom it is for, and keeps the sealed records. What was erased
    leaves no row, whether it was folded before or is folded after.

    Args:
        store: Gives the data keys.
        readers: By tenant number: what names references.
    """

    name = "notifications"
    fold_version = 1
    divisible = False
    tables = (
        *(Table("notifications"), Table("notification_reads"), Table("notification_readings")),
        Table("delivery_attempts"),
    )

    def __init__(self, store: StoreClient, readers: Mapping[int, Reader]) -> None:
        self._store = store
        self._readers = readers
        self._opened: list[tuple[Recorded, Event]] = []

    def copy(self) -> "Notifications":
        """The same fold, remembering nothing."""
        return Notifications(self._store, self._readers)

    async def prepare(self, events: Sequence[Recorded]) -> None:
        """Open what is about notifications."""
        self._opened = await opened_among(self._store, events, _FOLDED, self._readers)

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Add a row per decision, reading and attempt, with the first reading of each."""
        decided = [self._decision(one, event) for one, event in of_fact(self._opened, "decided")]
        await _add(connection, "add_notifications", decided)
        for one, event in of_fact(self._opened, "read"):
            name = notification_uuid(event.notification_read.notification_id)
            reading = (
                *(one.record.tenant, name, one.position, one.record.occurred_at_us),
                *(UUID(one.record.event_id), one.record.owner_key),
            )
            await connection.execute(_SQL["add_reading"], *reading)
            await connection.execute(_SQL["add_read"], *reading)
        attempts = [
            (
                *(one.record.tenant, notification_uuid(event.delivery_attempted.notification_id)),
                *(one.position, one.record.owner_key, one.record_bytes),
            )
            for one, event in of_fact(self._opened, "attempted")
        ]
        await _add(connection, "add_attempts", attempts)
        for erasure in erasures_among(events, self._readers):
            await _erase(connection, erasure)

    def aborted(self) -> None:
        """What was prepared is prepared anew."""
        self._opened = []

    def _decision(self, one: Recorded, event: Event) -> tuple[object, ...]:
        decided = event.notification_decided
        reader = self._readers[one.record.tenant]
        key = recipient_key(reader.identity_keys, decided.recipient)
        return (
            *(one.record.tenant, UUID(one.record.event_id), one.position, one.recorded_at_us),
            *(one.record.owner_key, _uuid_or_none(event.causation_id), key, _in_inbox(decided)),
            one.record_bytes,
        )


async def _erase(connection: Connection, erasure: Erasure) -> None:
    """Delete what was folded of events that can't be opened any more."""
    tenant, keys, _, _, position = erasure.arguments
    for what in ("notifications", "attempts"):
        rows = await connection.fetch(_SQL[f"{what}_of_owners"], tenant, keys, position)
        erased = [row["position"] for row in rows if erasure.concerns(recorded_of(row))]
        await connection.execute(_SQL[f"erase_{what}"], tenant, keys, erased)
    rows = await connection.fetch(_SQL["erase_readings"], *erasure.arguments)
    if rows:
        names = list({row["notification_id"] for row in rows})
        await connection.execute(_SQL["forget_reads"], tenant, names)
        await connection.execute(_SQL["first_reads"], tenant, names)


def recorded_of(row: Any) -> Recorded:
    """Return the event of a row that has its `record` and its `position`."""
    return Recorded(row["position"], 0, RecordedEvent.FromString(row["record"]), row["record"])


def recipient_key(keys: IdentityKeys, recipient: NotificationRecipient) -> bytes | None:
    """Return what an inbox is found by: a keyed hash of a reference, None for the customer's."""
    return None if recipient.customer else reference_key(keys, recipient.reference)


def reference_key(keys: IdentityKeys, reference: str) -> bytes:
    """Return the keyed hash of an employee's or a team's reference."""
    return keys.key(_REFERENCE_KIND, "reference", reference)


def notification_uuid(text: str) -> UUID:
    """Return a notification's id as the database knows it.

    Raises:
        ValueError: it is no UUID.
    """
    return UUID(text)


async def opened_among(
    store: StoreClient, events: Sequence[Recorded], types: Collection[int], tenants: Container[int]
) -> list[tuple[Recorded, Event]]:
    """Return the events of some types and tenants that can be opened, with what is in them.

    Raises:
        StoreUnavailable: the data keys can't be got.
    """
    wanted = [one for one in events if one.record.type in types and one.record.tenant in tenants]
    if not wanted:
        return []
    opened = await open_events(store, wanted)
    return [(one, event) for one, event in zip(wanted, opened, strict=True) if event is not None]


_FACTS: Final = {
    "decided": EVENT_TYPE_NOTIFICATION_DECIDED,
    "attempted": EVENT_TYPE_DELIVERY_ATTEMPTED,
    "read": EVENT_TYPE_NOTIFICATION_READ,
}


def of_fact(opened: Iterable[tuple[Recorded, Event]], what: str) -> list[tuple[Recorded, Event]]:
    """Return those of opened events that were `decided`, `attempted` or `read`."""
    return [(one, event) for one, event in opened if one.record.type == _FACTS[what]]


def _in_inbox(decided: NotificationDecided) -> bool:
    return any(
        one.channel == NOTIFICATION_CHANNEL_INBOX and one.verdict in USED
        for one in decided.considered
    )


def _uuid_or_none(text: str) -> UUID | None:
    return UUID(text) if text else None


async def _add(connection: Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        await connection.execute(_SQL[statement], *columns)


async def was_read(
    database: asyncpg.Pool | Connection, tenant: int, notification_id: uuid.UUID
) -> bool:
    """Return whether somebody has read a notification, as far as the line was folded."""
    return bool(await database.fetchval(_SQL["was_read"], tenant, notification_id))
