"""The projection of attributes' values, by which customers are found."""

from asyncio import sleep
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from asyncpg.pgproto.pgproto import UUID

from libs.eventstore.client import StoreClient
from libs.postgres.queries import load_queries
from libs.projection.config import Reader
from libs.projection.erasing import erasures_among
from libs.projection.opening import open_events
from libs.projection.projection import Connection, Recorded, Table
from libs.projection.writing import add_rows
from services.profile.attributes.hashing import name_key, value_key
from touchline.events.v1.event_pb2 import EVENT_TYPE_TRAITS_OBSERVED, Event

MIGRATIONS: Final = Path(__file__).with_name("migrations")
_COLUMNS: Final = (
    *("tenant", "value_key", "name_key", "owner_key", "occurred_at_us", "event_id", "position"),
)
_OPENED_AT_ONCE: Final = 200
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))

_Row = tuple[int, bytes, bytes, bytes, int, UUID, int]


class AttributeValues:
    """Folds TraitsObserved into hashes; see libs.projection.projection.Projection.

    It opens events to hash what they say, and keeps nothing that can be read. An erased event can't
    be opened, so an erasure removes what came of it.

    Args:
        store: Gives the data keys.
        readers: By tenant number: what hashes its values.
    """

    name = "attributes"
    fold_version = 1
    divisible = True
    tables = (Table("attribute_values"),)

    def __init__(self, store: StoreClient, readers: Mapping[int, Reader]) -> None:
        self._store = store
        self._readers = readers
        self._rows: list[_Row] = []

    def copy(self) -> "AttributeValues":
        """The same fold, remembering nothing."""
        return AttributeValues(self._store, self._readers)

    async def prepare(self, events: Sequence[Recorded]) -> None:
        """Open what was observed, and hash it.

        Raises:
            StoreUnavailable: the data keys can't be got.
        """
        self._rows = []
        told = [
            event
            for event in events
            if event.record.type == EVENT_TYPE_TRAITS_OBSERVED
            and event.record.tenant in self._readers
        ]
        for start in range(0, len(told), _OPENED_AT_ONCE):
            part = told[start : start + _OPENED_AT_ONCE]
            opened = await open_events(self._store, part, identities=False)
            for recorded, event in zip(part, opened, strict=True):
                if event is not None:
                    self._rows += self._rows_of(recorded, event)
            await sleep(0)

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Add what was observed, and remove what was erased."""
        if self._rows:
            insert = _SQL["add_values"]
            await add_rows(connection, "attribute_values", _COLUMNS, self._rows, insert)
        for erasure in erasures_among(events):
            await connection.execute(_SQL["erase_values"], *erasure.arguments)

    def aborted(self) -> None:
        """Forget what was hashed."""
        self._rows = []

    def _rows_of(self, recorded: Recorded, event: Event) -> Iterator[_Row]:
        record = recorded.record
        keys = self._readers[record.tenant].identity_keys
        traits = event.traits_observed.traits
        # One event says one value of each, also that there is none any more.
        for name in sorted(traits):
            yield (
                *(record.tenant, value_key(keys, name, traits[name]), name_key(keys, name)),
                *(record.owner_key, record.occurred_at_us, UUID(record.event_id)),
                recorded.position,
            )
