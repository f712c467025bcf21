"""What a projection is, and what a reactor is: a projection that also decides.

A reactor has state of its own, as any projection, and writes what it decides into the outbox in the
transaction of its checkpoint; see libs.projection.outbox.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import asyncpg

from touchline.events.v1.event_pb2 import (
    EVENT_TYPE_AGGREGATE_CHANGED,
    EVENT_TYPE_AGGREGATE_SNAPSHOT,
    EVENT_TYPE_PROFILE_ERASED,
)
from touchline.store.v1.store_pb2 import PackedEvent, RecordedEvent

# Their owner is a stream, which names no customer.
_OF_STREAMS: Final = frozenset(
    {EVENT_TYPE_AGGREGATE_CHANGED, EVENT_TYPE_AGGREGATE_SNAPSHOT, EVENT_TYPE_PROFILE_ERASED}
)

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy


class Recorded(NamedTuple):
    """An event as a projection folds it.

    Attributes:
        position: Its place on the line.
        recorded_at_us: When the store accepted it, in microseconds since 1970.
        record: Envelope and sealed rest.
        record_bytes: The same, serialised.
    """

    position: int
    recorded_at_us: int
    record: RecordedEvent
    record_bytes: bytes


class Table(NamedTuple):
    """A table that a projection folds into.

    Attributes:
        name: Its name.
        rows: The SQL condition that its rows fulfil, where projections share the table.
        append_only: Whether the fold of history only ever adds rows to it, by `add_rows`, and reads
            none: its indexes can be made once it is filled.
    """

    name: str
    rows: str = "true"
    append_only: bool = False


class Projection(Protocol):
    """Code that folds events into tables.

    Its statements name tables without a schema: a copy is folded in a schema of its own.

    Attributes:
        name: Of its checkpoint.
        fold_version: Raised whenever the same events would give other rows.
        divisible: Whether ranges of partitions can be folded apart: its rows come of the events of
            one owner at a time, and the events of an owner are folded in their order.
        tables: Its own, and nothing but folded: emptied with its checkpoint they fill again.
    """

    name: str
    fold_version: int
    divisible: bool

    @property
    def tables(self) -> tuple[Table, ...]:
        """See above."""

    def copy(self) -> "Projection | None":
        """Return the same fold, remembering nothing; None for a reactor: only one may act."""

    async def prepare(self, events: Sequence[Recorded]) -> None:
        """Get what folding these events needs from elsewhere, such as data keys.

        Called before the transaction begins, so that no database waits for the store.

        Raises:
            StoreError: it can't be got now; the same events are prepared again later.
            Behind: another projection is not there yet; likewise.
        """

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Fold events, in the order of their positions, within the connection's transaction.

        The rows must not depend on how the events are batched, on a clock or on chance.
        """

    def aborted(self) -> None:
        """Forget whatever was remembered of events whose transaction did not commit."""


def of_customers(events: Sequence[Recorded]) -> list[Recorded]:
    """Return the events that concern a customer: all but those of aggregates."""
    return [event for event in events if event.record.type not in _OF_STREAMS]


def decode(first_position: int, events: Sequence[PackedEvent]) -> list[Recorded]:
    """Return packed events, of which the first has that position, as projections fold them."""
    parse = RecordedEvent.FromString
    return [
        Recorded(position, event.recorded_at_us, parse(record := event.record), record)
        for position, event in enumerate(events, first_position)
    ]
