"""The reactor that turns decisions into deliveries, and takes in what the line says of those.

Its rows are work, not a view: they are neither dropped nor folded beside a live copy. Folding the
line anew into an empty database gives them again: what ended on the line ended, and of the rest the
worker suppresses what is too old.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from asyncpg.pgproto.pgproto import UUID

from libs.eventstore.client import StoreClient
from libs.postgres.queries import load_queries
from libs.projection.config import Reader
from libs.projection.erasing import Erasure, erasures_among
from libs.projection.projection import Connection, Recorded, Table
from services.notification.inbox.notifications import (
    USED,
    notification_uuid,
    of_fact,
    opened_among,
    recorded_of,
)
from touchline.events.v1.decisions_pb2 import (
    DELIVERY_OUTCOME_DEFERRED,
    DELIVERY_OUTCOME_FAILED,
    DELIVERY_OUTCOME_SENT,
    DELIVERY_OUTCOME_SKIPPED,
    DELIVERY_OUTCOME_SUPPRESSED,
    NOTIFICATION_CHANNEL_EMAIL,
    NOTIFICATION_CHANNEL_WEBHOOK,
    ConsideredChannel,
    DeliveryOutcome,
)
from touchline.events.v1.event_pb2 import (
    EVENT_TYPE_DELIVERY_ATTEMPTED,
    EVENT_TYPE_NOTIFICATION_DECIDED,
    EVENT_TYPE_NOTIFICATION_READ,
    Event,
)
from touchline.notification.v1.notification_pb2 import (
    DELIVERY_STATE_FAILED,
    DELIVERY_STATE_SENT,
    DELIVERY_STATE_SKIPPED,
    DELIVERY_STATE_SUPPRESSED,
    DELIVERY_STATE_WAITING,
    DeliveryState,
)
from touchline.times import micros_of

CHANNELS: Final = (NOTIFICATION_CHANNEL_EMAIL, NOTIFICATION_CHANNEL_WEBHOOK)
"""The channels that need somebody to carry something; an inbox is a fold."""

STATES: Final[dict[DeliveryOutcome.ValueType, DeliveryState.ValueType]] = {
    DELIVERY_OUTCOME_SENT: DELIVERY_STATE_SENT,
    DELIVERY_OUTCOME_FAILED: DELIVERY_STATE_FAILED,
    DELIVERY_OUTCOME_SKIPPED: DELIVERY_STATE_SKIPPED,
    DELIVERY_OUTCOME_DEFERRED: DELIVERY_STATE_WAITING,
    DELIVERY_OUTCOME_SUPPRESSED: DELIVERY_STATE_SUPPRESSED,
}
"""How a delivery stands after an attempt."""

# For a decision that does not say until when it may be delivered.
_EXPIRES_AFTER_US: Final = 86_400_000_000
_FOLDED: Final = frozenset(
    {
        EVENT_TYPE_NOTIFICATION_DECIDED,
        EVENT_TYPE_DELIVERY_ATTEMPTED,
        EVENT_TYPE_NOTIFICATION_READ,
    }
)
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class Deliveries:
    """Keeps the deliveries; see libs.projection.projection.Projection.

    Args:
        store: Gives the data keys.
        readers: By tenant number: whose notifications are delivered.
    """

    name = "deliveries"
    fold_version = 1
    divisible = False
    tables = (Table("deliveries"),)

    def __init__(self, store: StoreClient, readers: Mapping[int, Reader]) -> None:
        self._store = store
        self._readers = readers
        self._opened: list[tuple[Recorded, Event]] = []

    def copy(self) -> None:
        """Only one may decide."""

    async def prepare(self, events: Sequence[Recorded]) -> None:
        """Open what is about notifications."""
        self._opened = await opened_among(self._store, events, _FOLDED, self._readers)

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Add a delivery per channel that is used, then take in attempts, readings and erasures."""
        decided = of_fact(self._opened, "decided")
        rows = [row for one, event in decided for row in _deliveries(one, event)]
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            await connection.execute(_SQL["add_deliveries"], *columns)
        for one, event in of_fact(self._opened, "attempted"):
            await _take_in(connection, one, event)
        for one, event in of_fact(self._opened, "read"):
            # What still waits is looked at now, and found to have been read.
            name = notification_uuid(event.notification_read.notification_id)
            await connection.execute(_SQL["hurry"], one.record.tenant, [name])
        for erasure in erasures_among(events, self._readers):
            await _hurry_erased(connection, erasure)

    def aborted(self) -> None:
        """What was prepared is prepared anew."""
        self._opened = []


async def _hurry_erased(connection: Connection, erasure: Erasure) -> None:
    """Have what still waits of an erased customer looked at now, and found to be erased."""
    tenant, keys, _, _, position = erasure.arguments
    rows = await connection.fetch(_SQL["waiting_of"], tenant, keys, position)
    names = [row["notification_id"] for row in rows if erasure.concerns(recorded_of(row))]
    await connection.execute(_SQL["hurry"], tenant, names)


def _deliveries(one: Recorded, event: Event) -> Iterator[tuple[object, ...]]:
    decided = event.notification_decided
    for considered in decided.considered:
        if considered.channel in CHANNELS and considered.verdict in USED:
            due_at_us = _due_at_us(one, considered)
            expires_at_us = micros_of(decided.expires_at) or due_at_us + _EXPIRES_AFTER_US
            yield (
                *(one.record.tenant, UUID(one.record.event_id), considered.channel, one.position),
                *(due_at_us, expires_at_us, one.record.owner_key, one.recorded_at_us),
                one.record_bytes,
            )


def _due_at_us(one: Recorded, considered: ConsideredChannel) -> int:
    return max(one.recorded_at_us, micros_of(considered.not_before))


async def _take_in(connection: Connection, one: Recorded, event: Event) -> None:
    """Bring a row to what the line says, unless the row knows of that attempt or of a later one."""
    attempt = event.delivery_attempted
    deferred = attempt.outcome == DELIVERY_OUTCOME_DEFERRED
    await connection.execute(
        _SQL["take_in"],
        *(one.record.tenant, notification_uuid(attempt.notification_id), attempt.channel),
        *(attempt.attempt, STATES[attempt.outcome], attempt.reason),
        micros_of(attempt.retry_at) if deferred else None,
        None if deferred else one.record.occurred_at_us,
        attempt.possibly_repeated,
    )
