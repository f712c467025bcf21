"""The projection of consents and preferences."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from asyncpg.pgproto.pgproto import UUID

from libs.consents import TYPES
from libs.postgres.queries import load_queries
from libs.projection.projection import Connection, Recorded, Table, of_customers
from libs.projection.writing import add_rows

MIGRATIONS: Final = Path(__file__).with_name("migrations")
_COLUMNS: Final = (
    *("tenant", "identity_key", "event_id", "owner_key", "occurred_at_us", "recorded_at_us"),
    *("position", "record"),
)
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class Consents:
    """Folds envelopes into what was said; see libs.projection.projection.Projection.

    It opens nothing: an event's sealed record is kept as it is, once for each identity it names.
    """

    name = "consents"
    fold_version = 1
    divisible = False
    tables = (Table("consents"), Table("consent_retractions"))

    def copy(self) -> "Consents":
        """The same fold, remembering nothing."""
        return Consents()

    async def prepare(self, events: Sequence[Recorded]) -> None:
        """Envelopes say all it needs."""

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Add what was said, and a tombstone per retraction of any event."""
        told = of_customers(events)
        rows = [row for event in told if event.record.type in TYPES for row in _rows(event)]
        if rows:
            await add_rows(connection, "consents", _COLUMNS, rows, _SQL["add_words"])
        retracted = [
            (e.record.tenant, e.record.owner_key, UUID(e.record.retracts), e.recorded_at_us)
            for e in told
            if e.record.retracts
        ]
        if retracted:
            columns = [list(column) for column in zip(*retracted, strict=True)]
            await connection.execute(_SQL["add_retractions"], *columns)

    def aborted(self) -> None:
        """It remembers nothing."""


def _rows(event: Recorded) -> Iterator[tuple[object, ...]]:
    record = event.record
    for key in dict.fromkeys(sealed.identity_key for sealed in record.identities):
        yield (
            *(record.tenant, key, UUID(record.event_id), record.owner_key),
            *(record.occurred_at_us, event.recorded_at_us, event.position, event.record_bytes),
        )
