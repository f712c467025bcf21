"""Writes rows the fastest way for their number."""

from collections.abc import Sequence
from typing import Any, Final

from libs.projection.projection import Connection

# From this many rows on COPY is faster than an INSERT of arrays.
_COPY_ROWS: Final = 64


async def add_rows(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    insert: str,
) -> None:
    """Add rows to a table, in the connection's transaction.

    Args:
        connection: Whose transaction writes.
        table: The table's name.
        columns: Its columns, in the order of the rows' values.
        rows: At least one.
        insert: The INSERT for few rows; its parameters are the columns as arrays.
    """
    if len(rows) >= _COPY_ROWS:
        await connection.copy_records_to_table(table, records=rows, columns=columns)
    else:
        await connection.execute(insert, *[list(values) for values in zip(*rows, strict=True)])
