"""Compares tables that two folds of the same events filled: row by row, as text."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from libs.eventstore.client import StoreClient
from libs.postgres.queries import load_queries
from libs.projection.generations.generation import PUBLIC
from libs.projection.projection import Connection, Table
from touchline.events.v1.event_pb2 import EVENT_TYPE_PROFILE_ERASED
from touchline.projection.v1.projection_pb2 import RowDifference, TableComparison

MAX_DIFFERENCES: Final = 20
"""How many rows a comparison tells."""

_ROW_CHARACTERS: Final = 500
_POSITION: Final = "position"
_EVENT_ID: Final = "event_id"
_SQL: Final = load_queries(Path(__file__).with_name("comparing.sql"))


class _Row(NamedTuple):
    """A row that only one side has: its text, and its values by column."""

    is_live: bool
    text: str
    values: Mapping[str, Any]


async def compare_tables(
    connection: Connection, table: Table, live: str, copied: str
) -> TableComparison:
    """Compare a projection's table in one schema with that in another, in a transaction.

    Memory does not grow with the tables, but for what PostgreSQL's `work_mem` allows. Where others
    have rows in the table, in the schema public, only the projection's own count.

    Args:
        connection: In whose transaction, and so in whose snapshot.
        table: The table.
        live: The schema of the one that answers.
        copied: The schema of the other.
    """
    named = {
        "live": f"{live}.{table.name}",
        "copied": f"{copied}.{table.name}",
        "live_rows": table.rows if live == PUBLIC else "true",
        "copied_rows": table.rows if copied == PUBLIC else "true",
    }
    await connection.execute(_SQL["note_differing"].format_map(named))
    ((live_rows, copied_rows, differing_rows),) = await connection.fetch(
        _SQL["count_rows"].format_map(named)
    )
    told = TableComparison(
        table=table.name,
        live_rows=live_rows,
        copied_rows=copied_rows,
        differing_rows=differing_rows,
    )
    if differing_rows:
        first = _SQL["first_differing"].format_map(named)
        found = await connection.fetch(first, MAX_DIFFERENCES)
        keys = await connection.fetch(_SQL["key_columns"], f"{PUBLIC}.{table.name}")
        rows = [_Row(is_live, text, json.loads(values)) for is_live, text, values in found]
        told.differences.extend(_differences(rows, [row["name"] for row in keys]))
    await connection.execute(_SQL["forget_differing"])
    return told


async def erased_after(store: StoreClient, position: int) -> bool:
    """Tell whether somebody was erased of whom what was folded up to a position does not know.

    One fold may have read what another could not open any more; once both have folded the erasure
    they are alike.

    Raises:
        StoreError: the store can't be reached.
    """
    while events := (await store.history(position)).batch.events:
        if any(event.type == EVENT_TYPE_PROFILE_ERASED for event in events):
            return True
        position += len(events)
    return False


def _differences(rows: Sequence[_Row], key: Sequence[str]) -> Iterator[RowDifference]:
    """Yield rows with the columns in which the other side's row of the same key differs."""
    by_key = {(row.is_live, _key_of(row, key)): row for row in rows} if key else {}
    for row in rows:
        told = RowDifference(is_live=row.is_live, row=row.text[:_ROW_CHARACTERS])
        other = by_key.get((not row.is_live, _key_of(row, key)))
        if other is not None:
            told.columns.extend(
                name for name, value in row.values.items() if other.values.get(name) != value
            )
        if isinstance(row.values.get(_POSITION), int):
            told.position = row.values[_POSITION]
        told.event_id = str(row.values.get(_EVENT_ID) or "")
        yield told


def _key_of(row: _Row, key: Sequence[str]) -> tuple[str, ...]:
    return tuple(json.dumps(row.values.get(name)) for name in key)
