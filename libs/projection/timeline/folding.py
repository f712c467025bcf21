"""The projection of what happened: each event under the identity that owns it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from asyncpg.pgproto.pgproto import UUID

from libs.postgres.queries import load_queries
from libs.projection.projection import Connection, Recorded, Table, of_customers
from libs.projection.writing import add_rows

MIGRATIONS: Final = Path(__file__).with_name("migrations")
_COLUMNS: Final = (
    *("tenant", "owner_key", "occurred_at_us", "event_id", "position", "recorded_at_us"),
    *("type", "channel", "direction", "record"),
)
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class Timeline:
    """Folds envelopes into the timeline; see libs.projection.projection.Projection.

    It opens nothing: an event's sealed record is kept as it is.
    """

    name = "timeline"
    fold_version = 1
    divisible = True
    tables = (Table("timeline", append_only=True), Table("timeline_retractions"))

    def copy(self) -> "Timeline":
        """The same fold, remembering nothing."""
        return Timeline()

    async def prepare(self, events: Sequence[Recorded]) -> None:
        """Envelopes say all it needs."""

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Add an entry per event, and a tombstone per retraction."""
        rows = _rows(of_customers(events))
        if not rows:
            return
        await add_rows(connection, "timeline", _COLUMNS, rows, _SQL["add_entries"])
        retracted = [
            (e.record.tenant, e.record.owner_key, UUID(e.record.retracts), e.recorded_at_us)
            for e in events
            if e.record.retracts
        ]
        if retracted:
            columns = [list(column) for column in zip(*retracted, strict=True)]
            await connection.execute(_SQL["add_retractions"], *columns)

    def aborted(self) -> None:
        """It remembers nothing."""


def _rows(events: Sequence[Recorded]) -> list[tuple[object, ...]]:
    return [
        (
            record.tenant,
            record.owner_key,
            record.occurred_at_us,
            UUID(record.event_id),
            position,
            recorded_at_us,
            record.type,
            record.channel,
            record.direction,
            record_bytes,
        )
        for position, recorded_at_us, record, record_bytes in events
    ]
