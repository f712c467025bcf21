"""What became of the notifications that follow from an event, for ExplainNotification."""

from collections import defaultdict
from pathlib import Path
from typing import Final

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from libs.postgres.queries import load_queries
from libs.projection.opening import open_records
from services.notification.calls import Parts
from services.notification.deliveries.calls import deliveries_of
from touchline.notification.v1.notification_pb2 import NotificationExplanation
from touchline.store.v1.store_pb2 import RecordedEvent
from touchline.times import timestamp_of

PROJECTIONS: Final = ("notifications", "deliveries")
"""What explanations are read from."""

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


async def cause_of(pool: asyncpg.Pool, tenant: int, notification_id: UUID) -> UUID | None:
    """Return the event that a notification follows from; None when none is known."""
    found: UUID | None = await pool.fetchval(_SQL["cause_of"], tenant, notification_id)
    return found


async def decisions_of(parts: Parts, tenant: int, cause_id: UUID) -> list[NotificationExplanation]:
    """Return the notifications that follow from an event, with what became of them.

    Args:
        parts: The service.
        tenant: The tenant's number.
        cause_id: The event.

    Returns:
        In the order in which they were decided. An erased one has neither its content nor its
        attempts.

    Raises:
        StoreUnavailable: the data keys can't be got.
    """
    rows = await parts.pool.fetch(_SQL["decisions_of"], tenant, cause_id)
    names = [row["notification_id"] for row in rows]
    deliveries, attempts = defaultdict(list), defaultdict(list)
    for name, delivery in await deliveries_of(parts, tenant, names):
        deliveries[name].append(delivery)
    attempted = await parts.pool.fetch(_SQL["attempts_of"], tenant, names)
    records = [RecordedEvent.FromString(row["record"]) for row in (*rows, *attempted)]
    opened = await open_records(parts.store, records)
    for row, event in zip(attempted, opened[len(rows) :], strict=True):
        if event is not None:
            attempts[row["notification_id"]].append(event.delivery_attempted)
    explained = []
    for row, event in zip(rows, opened, strict=False):
        name = row["notification_id"]
        one = NotificationExplanation(
            notification_id=str(name),
            decided_at=timestamp_of(row["recorded_at_us"]),
            deliveries=deliveries[name],
            attempts=attempts[name],
        )
        if event is not None:
            one.notification.CopyFrom(event.notification_decided)
        if row["read_at_us"] is not None:
            one.read_at.CopyFrom(timestamp_of(row["read_at_us"]))
        explained.append(one)
    return explained
