"""Numbered SQL files, each run once, in order, in a transaction of its own."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

_LOCK: Final = 7_410_001  # any number, the same for every process that migrates
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    component text NOT NULL,
    number integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (component, number)
)
"""


class MigrationError(Exception):
    """The schema and the code do not fit; the message says which migration, and what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file, such as `0001_events.sql`."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """The SHA-256 of the file's text, in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(directory: Path) -> list[Migration]:
    """Returns the migrations of a directory in the order of their numbers."""
    files = sorted(directory.glob("[0-9]*.sql"))
    return [Migration(int(file.name.split("_")[0]), file.stem, file.read_text()) for file in files]


async def migrate(url: str, component: str, directory: Path) -> list[str]:
    """Brings a component's tables up to date, one process at a time, and names what it ran.

    Raises:
        MigrationError: a migration was edited after it ran, the schema is newer than this code,
            or a migration fails; it is then rolled back whole.
    """
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(_TABLE)
        return [
            await _run(connection, component, migration)
            for migration in await _pending(connection, component, read_migrations(directory))
        ]
    finally:
        await connection.close()


async def _pending(
    connection: asyncpg.Connection, component: str, known: list[Migration]
) -> list[Migration]:
    rows = await connection.fetch(
        "SELECT number, name, checksum FROM schema_migrations WHERE component = $1", component
    )
    applied = {row["number"]: row for row in rows}
    if newer := sorted(set(applied) - {m.number for m in known}):
        raise MigrationError(
            f"the schema of {component} has migration {applied[newer[-1]]['name']}, which this "
            "code does not know: it is newer than the code. Run the newer release."
        )
    for migration in known:
        row = applied.get(migration.number)
        if row is not None and row["checksum"] != migration.checksum:
            raise MigrationError(
                f"migration {migration.name} of {component} was edited after it ran. "
                "Restore the file, and put the change into a new migration."
            )
    return [m for m in known if m.number not in applied]


async def _run(connection: asyncpg.Connection, component: str, migration: Migration) -> str:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (component, number, name, checksum)"
                " VALUES ($1, $2, $3, $4)",
                *(component, migration.number, migration.name, migration.checksum),
            )
    except asyncpg.PostgresError as error:
        raise MigrationError(
            f"migration {migration.name} of {component} failed and was rolled back: {error}"
        ) from error
    return migration.name
