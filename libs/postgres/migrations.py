"""Numbered SQL files, each run once, in order, in a transaction of its own."""

import asyncio
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from libs.postgres.pool import UNREACHABLE

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
# Waiting does not help against these.
_REFUSED: Final = (
    asyncpg.ClientConfigurationError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


class MigrationError(Exception):
    """The database can't be used, or does not fit the code; the message says what to do."""


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


async def migrate(
    url: str, component: str, directory: Path, *, patience: float = 30.0
) -> list[str]:
    """Brings a component's tables up to date, one process at a time, and names what it ran.

    Args:
        url: A postgresql:// URL with the database.
        component: Whose tables, such as `eventstore`.
        directory: Holds its migrations.
        patience: For how many seconds to wait for a server that is still starting.

    Raises:
        MigrationError: the database can't be used, a migration was edited after it ran, the schema
            is newer than this code, or a migration fails; it is then rolled back whole.
    """
    connection = await _connect(url, component, patience)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(_TABLE)
        return [
            await _run(connection, component, migration)
            for migration in await _pending(connection, component, read_migrations(directory))
        ]
    finally:
        await connection.close()


async def _connect(url: str, component: str, patience: float) -> asyncpg.Connection:
    end = time.monotonic() + patience
    while True:
        try:
            return await asyncpg.connect(url)
        except (*_REFUSED, *UNREACHABLE) as error:
            if isinstance(error, _REFUSED) or time.monotonic() > end:
                # Without the user, the password and the driver's text, which may repeat them.
                where = urlsplit(url).netloc.rpartition("@")[2] or "(no host)"
                raise MigrationError(
                    f"the database of {component} on {where} can't be used "
                    f"({type(error).__name__}). Start it, or correct TOUCHLINE_DATABASE_URL."
                ) from error
        await asyncio.sleep(0.2)


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
