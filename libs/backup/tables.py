"""Copies one table into a file, and back."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import asyncpg

from libs.backup.errors import BackupError
from libs.backup.files import HashedFile, chunks
from libs.backup.manifest import DumpedTable
from libs.backup.rows import LineProof, RowCounter
from libs.postgres.queries import load_queries

SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
POSITION: Final = "position"
_BUFFER_BYTES: Final = 256 * 1024
_COUNT: Final = "SELECT count(*) FROM {}"
_ANY: Final = "SELECT EXISTS (SELECT FROM {})"  # such as the one row of the head
_EMPTY: Final = "DELETE FROM {}"
_NEXT: Final = (
    "SELECT setval(pg_get_serial_sequence($1, $2),"
    " (SELECT coalesce(max({}), 0) + 1 FROM {}), false)"
)

Show = Callable[[str, int, int], None]
"""Called with what is worked on, how much of it is done, and how much there is."""


async def columns_of(connection: asyncpg.Connection, table: str) -> tuple[str, ...]:
    """Return the columns of a table that can be written, in the table's order."""
    return tuple(row["name"] for row in await connection.fetch(SQL["columns"], quoted(table)))


async def dump_table(
    connection: asyncpg.Connection,
    table: str,
    path: Path,
    show: Show,
    line: LineProof | None = None,
) -> DumpedTable:
    """Write a table into a new file, as the connection sees it.

    Args:
        connection: In a transaction that sees one state.
        table: Its name.
        path: The file.
        show: Told the table, and how many of how many rows are written.
        line: Proves what is written, where the table is a line; raises BackupError if it is none.

    Raises:
        BackupError: the file can't be written, or `line` says so.
    """
    columns = await columns_of(connection, table)
    total = line.position if line else await connection.fetchval(_COUNT.format(quoted(table)))
    order = f" ORDER BY {POSITION}" if line else ""
    proof, file, waiting = line or RowCounter(), HashedFile(path), bytearray()

    async def take(chunk: bytes) -> None:
        waiting.extend(chunk)
        if len(waiting) >= _BUFFER_BYTES:
            flush()

    def flush() -> None:
        piece = bytes(waiting)
        waiting.clear()
        proof.feed(piece)
        file.write(piece)
        show(table, proof.rows, total)

    listed = ", ".join(map(quoted, columns))
    await connection.copy_from_query(
        f"SELECT {listed} FROM {quoted(table)}{order}",  # noqa: S608 - names of the catalogue
        output=take,
        format="binary",
    )
    flush()
    if line:
        line.check_end()
    return DumpedTable(table, path.name, columns, proof.rows, file.size, file.close())


async def load_table(
    connection: asyncpg.Connection,
    table: DumpedTable,
    path: Path,
    show: Show,
    line: LineProof | None = None,
) -> None:
    """Write the rows of a file into a table that its migrations have just made.

    Its indexes are made anew behind the rows, which takes a fraction of the time.

    Args:
        connection: In a transaction.
        table: What the file holds.
        path: The file.
        show: Told the table, and how many of how many rows are written.
        line: Proves what is read, where the table is a line; raises BackupError if it is none.

    Raises:
        BackupError: the file is not what the manifest says, or `line` says so.
    """
    proof = line or RowCounter()

    async def told() -> AsyncIterator[bytes]:
        async for chunk in chunks(path):
            proof.feed(chunk)
            yield chunk
            show(table.table, proof.rows, table.rows)

    indexes = await connection.fetch(SQL["indexes"], quoted(table.table))
    for index in indexes:
        await connection.execute(_dropping(table.table, index))
    if await connection.fetchval(_ANY.format(quoted(table.table))):
        await connection.execute(_EMPTY.format(quoted(table.table)))
    await connection.copy_to_table(
        table.table, source=told(), columns=table.columns, format="binary"
    )
    if not proof.ended or proof.rows != table.rows:
        raise BackupError(
            f"{path} holds {proof.rows:,} rows of {table.table}, and {table.rows:,} were written."
        )
    if line:
        line.check_end()
    for index in indexes:
        await connection.execute(_making(table.table, index))
    await _set_sequences(connection, table.table)


def _dropping(table: str, index: asyncpg.Record) -> str:
    if index["constraint_name"]:
        return f"ALTER TABLE {quoted(table)} DROP CONSTRAINT {quoted(index['constraint_name'])}"
    return f"DROP INDEX {index['name']}"


def _making(table: str, index: asyncpg.Record) -> str:
    if index["constraint_name"]:
        named = quoted(index["constraint_name"])
        definition = index["constraint_definition"]
        return f"ALTER TABLE {quoted(table)} ADD CONSTRAINT {named} {definition}"
    return str(index["definition"])


async def _set_sequences(connection: asyncpg.Connection, table: str) -> None:
    """Let numbers that the database gives go on after those that were loaded."""
    for row in await connection.fetch(SQL["identity_columns"], quoted(table)):
        column = row["name"]
        await connection.execute(_NEXT.format(quoted(column), quoted(table)), quoted(table), column)


def quoted(name: str) -> str:
    """Return a name as it stands in a statement."""
    return '"' + name.replace('"', '""') + '"'
